"""Connections with made-up tensors, for the tests of products, primitives and rules."""

import dataclasses

import numpy as np
import tensorflow as tf
from hypothesis import assume, settings
from hypothesis import strategies as st

from tfcredit.connections import (
    ConvConnection,
    DenseConnection,
    DepthwiseConnection,
    EinsumConnection,
    GatedConnection,
    TransposedConnection,
)


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
def gated_cases(draw, dtypes=("float64",)):
    middle = draw(st.lists(st.integers(1, 3), max_size=2))
    gates, inputs, units = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 3))
    shapes = (*middle, gates, inputs), (inputs, gates * units)
    return case(GatedConnection(gates), *shapes, dtype, batch)


@st.composite
def einsum_cases(draw, dtypes=("float64",)):
    """Every form: axes kept, contracted, shared, elided on either side, in any order."""
    equation, shape, kernel_shape = draw(
        st.sampled_from(
            [
                ("ab,bc->ac", (3,), (3, 2)),
                ("abc,cde->abde", (2, 3), (3, 2, 4)),
                ("abcd,cde->abe", (2, 3, 2), (3, 2, 4)),
                ("...x,xy->...y", (2, 2, 3), (3, 2)),
                ("ab...,bc->ac...", (3, 2, 2), (3, 2)),
                ("abc,bcd->abd", (2, 3), (2, 3, 4)),
                ("abc,bc->abc", (2, 3), (2, 3)),
                ("abc,dbc->adc", (2, 3), (4, 2, 3)),
                ("ab,c->acb", (3,), (2,)),
            ]
        )
    )
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 3))
    connection = EinsumConnection(equation, 1 + len(shape))
    return case(connection, shape, kernel_shape, dtype, batch)


@st.composite
def conv_settings(draw, ranks=(1, 2, 2, 3)):
    """Arguments of `ConvConnection`, the input and the kernel shape."""
    rank = draw(st.sampled_from(ranks))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides, dilation = tuple(draw(st.integers(1, 3)) for _ in range(rank)), (1,) * rank
    if draw(st.booleans()):
        dilation, strides = tuple(draw(st.integers(1, 2)) for _ in range(rank)), (1,) * rank
    pad = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[pad] * rank)))
    groups = draw(st.sampled_from([1, 1, 2]))
    data_format = draw(st.sampled_from(["channels_last", "channels_last", "channels_first"]))
    size = tuple(draw(st.integers(1, 7 if rank < 3 else 4)) for _ in range(rank))
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    pads = ((0, 0),) * rank if isinstance(padding, str) else padding
    for axis in range(rank):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        assume(padding == "same" or size[axis] + sum(pads[axis]) >= reach)
    arguments = (strides, padding, dilation, data_format, groups)
    return arguments, image(data_format, size, channels), (*kernel, channels // groups, filters)


def image(data_format, size, channels):
    return (channels, *size) if data_format == "channels_first" else (*size, channels)


@st.composite
def conv_cases(draw, dtypes=("float64",)):
    arguments, shape, kernel_shape = draw(conv_settings())
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 3))
    return case(ConvConnection(*arguments), shape, kernel_shape, dtype, batch)


@st.composite
def depthwise_cases(draw, dtypes=("float64",)):
    (strides, padding, dilation, data_format, _), shape, kernel_shape = draw(conv_settings((1, 2)))
    # TensorFlow's depthwise op takes equal strides only, and so do Keras' layers.
    connection = DepthwiseConnection(strides[:1] * len(strides), padding, dilation, data_format)
    channels = shape[0 if data_format == "channels_first" else -1]
    kernel_shape = (*kernel_shape[:-2], channels, draw(st.integers(1, 2)))
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 3))
    return case(connection, shape, kernel_shape, dtype, batch)


@st.composite
def transposed_cases(draw, dtypes=("float64",)):
    (strides, padding, dilation, data_format, _), shape, kernel_shape = draw(conv_settings())
    padding = padding if isinstance(padding, str) else "valid"
    connection = TransposedConnection(ConvConnection(strides, padding, dilation, data_format))
    channels = shape[0 if data_format == "channels_first" else -1]
    kernel_shape = (*kernel_shape[:-2], kernel_shape[-1], channels)
    dtype, batch = draw(st.sampled_from(dtypes)), draw(st.integers(1, 2))
    return case(connection, shape, kernel_shape, dtype, batch)


def cases(dtypes=("float64",)):
    kinds = dense_cases, conv_cases, einsum_cases, depthwise_cases, transposed_cases
    kinds += (gated_cases,)
    return st.one_of(*(kind(dtypes) for kind in kinds))


def convolve(x, w, strides, padding, dilation, data_format, groups):
    """`ConvConnection.op` in NumPy, by the definition."""
    rank = len(strides)
    if data_format == "channels_first":
        x = np.moveaxis(x, 1, -1)
    pads = [] if isinstance(padding, str) else [tuple(p) for p in padding]
    for axis in range(rank if isinstance(padding, str) else 0):
        size, stride = x.shape[axis + 1], strides[axis]
        reach = (w.shape[axis] - 1) * dilation[axis] + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        pads.append((total // 2, total - total // 2) if padding == "same" else (0, 0))
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    sizes = [
        (x.shape[a + 1] - (w.shape[a] - 1) * dilation[a] - 1) // strides[a] + 1 for a in range(rank)
    ]
    inputs, filters = w.shape[-2], w.shape[-1] // groups
    y = np.zeros((x.shape[0], *sizes, w.shape[-1]))
    for index in np.ndindex(*sizes, *w.shape[:-2]):
        position, tap = index[:rank], index[rank:]
        read = (p * s + t * d for p, s, t, d in zip(position, strides, tap, dilation, strict=True))
        pixel = x[:, *read]
        for g in range(groups):
            outputs = slice(g * filters, (g + 1) * filters)
            product = pixel[:, g * inputs : (g + 1) * inputs] @ w[*tap, :, outputs]
            y[:, *position, outputs] += product
    return np.moveaxis(y, -1, 1) if data_format == "channels_first" else y
