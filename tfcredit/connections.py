"""What differs between a matrix product and a convolution: three products, nothing else.

A layer computes `y = op(x; W)`. The two other products are the adjoints of `op`:

    <op(x; W), y>  =  <x, op_transpose(y; W)>  =  <W, hebbian(x, y)>

Everything above this module (primitives, rules, layers) is written in terms of them, so a new
kind of layer is one new `Connection`.
"""

import abc
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.errors import UserError

Padding = str | Sequence[Sequence[int]]


class Connection(abc.ABC):
    """The three products of one layer. `x` and `y` have the batch on axis 0."""

    @abc.abstractmethod
    def op(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The forward product `op(x; kernel)`, without bias and activation."""

    @abc.abstractmethod
    def op_transpose(self, y: tf.Tensor, kernel: tf.Tensor, input_shape: tf.Tensor) -> tf.Tensor:
        """The adjoint of `op` in its input: a tensor of shape `input_shape`."""

    @abc.abstractmethod
    def hebbian(self, x: tf.Tensor, y: tf.Tensor, kernel_shape: Sequence[int]) -> tf.Tensor:
        """The adjoint of `op` in its kernel: `x` times `y`, summed over batch and space."""

    @abc.abstractmethod
    def overlaps(self, input_shape: Sequence[int], kernel_shape: Sequence[int]) -> list[np.ndarray]:
        """Which kernel taps meet the input at which output position, per spatial axis.

        Args:
            input_shape: Static shape of one sample, without the batch axis.
            kernel_shape: Static shape of the kernel.

        Returns:
            One float64 array `[positions, taps]` of zeros and ones per spatial axis of the kernel.

        Raises:
            UserError: A size of `input_shape` that is needed is unknown (`None`).
        """


class DenseConnection(Connection):
    """`y = x W` on the last axis: `x [batch, ..., inputs]`, `W [inputs, units]`."""

    def op(self, x, kernel):
        """See `Connection.op`."""
        if x.shape.rank == 2:
            return tf.matmul(x, kernel)
        flat = tf.matmul(_rows(x), kernel)
        return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], tf.shape(kernel)[1:]], 0))

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        return tf.reshape(tf.matmul(_rows(y), kernel, transpose_b=True), input_shape)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        return tf.matmul(_rows(x), _rows(y), transpose_a=True)

    def overlaps(self, input_shape, kernel_shape):
        """See `Connection.overlaps`: one "tap", met at every position."""
        _require_static(input_shape[:-1])
        return [np.ones((int(np.prod(input_shape[:-1])), 1))]


class Conv2DConnection(Connection):
    """2-D convolution (cross-correlation) with `W [height, width, channels / groups, filters]`.

    Args:
        strides: Two positive integers (height, width).
        padding: `"same"`, `"valid"`, or explicit `((top, bottom), (left, right))` in pixels.
        dilation_rate: Two positive integers.
        data_format: `"channels_last"` or `"channels_first"`.
        groups: Number of groups that the channels and filters are divided into.
    """

    def __init__(
        self,
        strides: Sequence[int] = (1, 1),
        padding: Padding = "valid",
        dilation_rate: Sequence[int] = (1, 1),
        data_format: str = "channels_last",
        groups: int = 1,
    ):
        self.groups = groups
        self.strides, self.dilation_rate = tuple(strides), tuple(dilation_rate)
        self.padding = padding.upper() if isinstance(padding, str) else "EXPLICIT"
        self.channels_first = data_format == "channels_first"
        # The axes of batch, height, width and channels.
        self._axes = (0, 2, 3, 1) if self.channels_first else (0, 1, 2, 3)
        pads = [[0, 0], [0, 0]] if isinstance(padding, str) else [list(p) for p in padding]
        self.pads = pads
        self._options = {
            "strides": self._per_axis(1, *self.strides, 1),
            "dilations": self._per_axis(1, *self.dilation_rate, 1),
            "padding": self.padding,
            "explicit_paddings": (
                sum(self._per_axis([0, 0], *pads, [0, 0]), []) if self.padding == "EXPLICIT" else []
            ),
            "data_format": "NCHW" if self.channels_first else "NHWC",
        }

    def op(self, x, kernel):
        """See `Connection.op`."""
        x, options = self._without_strides(x, kernel.shape)
        return self._run(tf.raw_ops.Conv2D, input=x, filter=kernel, **options)

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        options, subsampling = self._options, self._is_subsampling(kernel.shape)
        sizes = input_shape
        if subsampling:
            options = options | {"strides": [1] * 4}
            batch, height, width = (tf.shape(y)[i] for i in self._axes[:3])
            sizes = tf.stack(self._per_axis(batch, height, width, input_shape[self._axes[3]]))
        x = self._run(
            tf.raw_ops.Conv2DBackpropInput,
            input_sizes=sizes,
            filter=kernel,
            out_backprop=y,
            **options,
        )
        return self._spread(x, input_shape) if subsampling else x

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        x, options = self._without_strides(x, kernel_shape)
        return self._run(
            tf.raw_ops.Conv2DBackpropFilter,
            input=x,
            filter_sizes=tf.constant(list(kernel_shape)),
            out_backprop=y,
            **options,
        )

    def overlaps(self, input_shape, kernel_shape):
        """See `Connection.overlaps`."""
        sizes = input_shape[1:] if self.channels_first else input_shape[:-1]
        _require_static(sizes)
        result = []
        for axis in range(2):
            size, taps = sizes[axis], kernel_shape[axis]
            stride, dilation = self.strides[axis], self.dilation_rate[axis]
            reach = (taps - 1) * dilation + 1
            before, after = self.pads[axis]
            if self.padding == "SAME":
                total = max((-(-size // stride) - 1) * stride + reach - size, 0)
                before, after = total // 2, total - total // 2
            positions = (size + before + after - reach) // stride + 1
            where = np.arange(positions)[:, None] * stride + np.arange(taps) * dilation - before
            result.append(((where >= 0) & (where < size)).astype(float))
        return result

    def _per_axis(self, batch, height, width, channels):
        if self.channels_first:
            return [batch, channels, height, width]
        return [batch, height, width, channels]

    # Strided 1x1 convolutions (ResNets' projection shortcuts) read only every stride-th pixel.
    # They run as unstrided ones on those pixels: the same mathematics, and the only way round a
    # fault of TensorFlow 2.21's oneDNN kernels, whose Conv2DBackpropFilter corrupts memory and
    # ends the process for a 1x1 kernel, stride >= 2, batch 1 and few channels (28x28, 8 -> 16:
    # float32 and bfloat16, SAME and VALID, every time; float64 and float16, which do not use
    # oneDNN, never).
    def _is_subsampling(self, kernel_shape):
        pointwise = kernel_shape[0] == kernel_shape[1] == 1
        return pointwise and self.strides != (1, 1) and self.padding != "EXPLICIT"

    def _without_strides(self, x, kernel_shape):
        if not self._is_subsampling(kernel_shape):
            return x, self._options
        steps = self._per_axis(1, *self.strides, 1)
        x = x[tuple(slice(None, None, step) for step in steps)]
        return x, self._options | {"strides": [1] * 4}

    def _spread(self, x, shape):
        """Put the pixels of `x` on every stride-th pixel of a zero image of `shape`."""
        sizes = tf.unstack(tf.shape(x))
        for axis, stride in zip(self._axes[1:3], self.strides, strict=True):
            x = tf.expand_dims(x, axis + 1)
            x = tf.pad(x, [[0, stride - 1 if i == axis + 1 else 0] for i in range(5)])
            sizes[axis] = sizes[axis] * stride
            x = tf.reshape(x, tf.stack(sizes))
        # The last stride may reach past the image or stop short of its edge.
        x = tf.slice(x, [0] * 4, tf.minimum(tf.shape(x), shape))
        return tf.pad(x, tf.stack([tf.zeros(4, tf.int32), shape - tf.shape(x)], 1))

    def _run(self, raw_op, **arguments):
        """Run a raw op, through XLA where the CPU has no kernel of its own for it.

        TensorFlow 2.21's CPU kernels for groups, dilations and channels-first are oneDNN's: they
        take float32 and bfloat16, not float64, float16 or explicit paddings. Keras steers round
        the same gap with XLA.
        """
        special = self.groups > 1 or self.dilation_rate != (1, 1) or self.channels_first
        dtype = arguments["filter" if "filter" in arguments else "input"].dtype
        onednn = dtype in (tf.float32, tf.bfloat16) and self.padding != "EXPLICIT"
        if special and not onednn and not tf.config.list_logical_devices("GPU"):
            return tf.function(lambda tensors: raw_op(**arguments | tensors), jit_compile=True)(
                {k: v for k, v in arguments.items() if tf.is_tensor(v) and v.dtype == dtype}
            )
        return raw_op(**arguments)


def _rows(x: tf.Tensor) -> tf.Tensor:
    return x if x.shape.rank == 2 else tf.reshape(x, [-1, x.shape[-1]])


def _require_static(sizes: Sequence[int | None]) -> None:
    if None in sizes:
        raise UserError(
            f"the input has sizes {tuple(sizes)}, but a calibrated rule counts the positions that "
            "each kernel tap meets and needs them known: give the model a full input shape."
        )
