"""Connections with made-up tensors, for the tests of products, primitives and rules."""

import dataclasses

import numpy as np
import tensorflow as tf
from hypothesis import assume, settings
from hypothesis import strategies as st

from tfcredit.connections import Conv2DConnection, DenseConnection


def examples(count):
    """The same few examples each time, however long one takes."""
    return settings(derandomize=True, deadline=None, max_examples=count, database=None)


@dataclasses.dataclass
class Case:
    """A connection, x, W, B, and y = op(x; W), in one dtype."""

    connection: object
    x: tf.Tensor
    kernel: tf.Tensor
    feedback: tf.Tensor
    y: tf.Tensor


def case(connection, input_shape, kernel_shape, dtype="float64", batch=2, seed=0):
    rng = np.random.default_rng(seed)
    x, w, b = (
        tf.cast(tf.constant(rng.normal(size=shape)), dtype)
        for shape in ((batch, *input_shape), kernel_shape, kernel_shape)
    )
    return Case(connection, x, w, b, connection.op(x, w))


@st.composite
def dense_cases(draw, dtypes=("float64",)):
    middle = draw(st.lists(st.integers(1, 3), max_size=2))
    inputs, units = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 3))
    return case(DenseConnection(), (*middle, inputs), (inputs, units), dtype, batch)


@st.composite
def conv_settings(draw):
    """Arguments of `Conv2DConnection`, the input and the kernel shape."""
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    strides, dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3))), (1, 1)
    if draw(st.booleans()):
        dilation, strides = (draw(st.integers(1, 2)), draw(st.integers(1, 2))), (1, 1)
    pad = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(pad, pad)))
    groups = draw(st.sampled_from([1, 1, 2]))
    data_format = draw(st.sampled_from(["channels_last", "channels_last", "channels_first"]))
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else padding
    for axis in range(2):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        assume(padding == "same" or size[axis] + sum(pads[axis]) >= reach)
    shape = (channels, *size) if data_format == "channels_first" else (*size, channels)
    arguments = (strides, padding, dilation, data_format, groups)
    return arguments, shape, (*kernel, channels // groups, filters)


@st.composite
def conv_cases(draw, dtypes=("float64",)):
    arguments, shape, kernel_shape = draw(conv_settings())
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 3))
    return case(Conv2DConnection(*arguments), shape, kernel_shape, dtype, batch)


def cases(dtypes=("float64",)):
    return st.one_of(dense_cases(dtypes), conv_cases(dtypes))


def convolve(x, w, strides, padding, dilation, data_format, groups):
    """`Conv2DConnection.op` in NumPy, by the definition."""
    if data_format == "channels_first":
        x = x.transpose(0, 2, 3, 1)
    pads = [] if isinstance(padding, str) else [tuple(p) for p in padding]
    for axis in range(2 if isinstance(padding, str) else 0):
        size, stride = x.shape[axis + 1], strides[axis]
        reach = (w.shape[axis] - 1) * dilation[axis] + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        pads.append((total // 2, total - total // 2) if padding == "same" else (0, 0))
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    rows, columns = (
        (x.shape[a + 1] - (w.shape[a] - 1) * dilation[a] - 1) // strides[a] + 1 for a in range(2)
    )
    inputs, filters = w.shape[2], w.shape[3] // groups
    y = np.zeros((x.shape[0], rows, columns, w.shape[3]))
    for r, c, i, j in np.ndindex(rows, columns, *w.shape[:2]):
        pixel = x[:, r * strides[0] + i * dilation[0], c * strides[1] + j * dilation[1]]
        for g in range(groups):
            outputs = slice(g * filters, (g + 1) * filters)
            y[:, r, c, outputs] += pixel[:, g * inputs : (g + 1) * inputs] @ w[i, j, :, outputs]
    return y.transpose(0, 3, 1, 2) if data_format == "channels_first" else y
