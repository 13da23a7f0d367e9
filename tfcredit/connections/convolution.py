"""Convolutions of one to three spatial axes."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.base import Connection

Padding = str | Sequence[Sequence[int]]


class ConvConnection(Connection):
    """Convolution (cross-correlation) with `W [*space, channels / groups, filters]`.

    Args:
        strides: A positive integer per spatial axis: one, two or three of them.
        padding: `"same"`, `"valid"`, or explicit `(before, after)` pairs, one per spatial axis.
        dilation_rate: A positive integer per spatial axis. Default: ones.
        data_format: `"channels_last"` or `"channels_first"`.
        groups: Number of groups that the channels and filters are divided into.
    """

    def __init__(
        self,
        strides: Sequence[int] = (1, 1),
        padding: Padding = "valid",
        dilation_rate: Sequence[int] | None = None,
        data_format: str = "channels_last",
        groups: int = 1,
    ):
        self.strides, self.groups, self.data_format = tuple(strides), groups, data_format
        self.rank = len(self.strides)
        self.dilation_rate = tuple(dilation_rate or [1] * self.rank)
        explicit = not isinstance(padding, str)
        self.padding = "valid" if explicit else padding
        self.pads = [tuple(p) for p in padding] if explicit else [(0, 0)] * self.rank
        self.channels_first = data_format == "channels_first"
        # The axes of batch, space and channels.
        space = [i + (2 if self.channels_first else 1) for i in range(self.rank)]
        self._places = [0, *space, 1 if self.channels_first else self.rank + 1]

    def op(self, x, kernel):
        """See `Connection.op`: Keras' own, so that outputs are the Keras layer's bit for bit."""
        if not self._is_subsampling(kernel.shape):
            return self._convolve(x, kernel)

        @tf.custom_gradient
        def convolve(x, kernel):
            def gradient(dy):
                dx = self.op_transpose(dy, kernel, tf.shape(x))
                return dx, self.hebbian(x, dy, kernel.shape)

            return self._convolve(x, kernel), gradient

        return convolve(x, kernel)

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        if not self._is_subsampling(kernel.shape):
            return self._spread(y, kernel, input_shape)

        @tf.custom_gradient
        def spread(y, kernel):
            def gradient(dx):
                return self.op(dx, kernel), self.hebbian(dx, y, kernel.shape)

            return self._spread(y, kernel, input_shape), gradient

        return spread(y, kernel)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        x, strides = self._padded(x), self.strides
        if self._is_subsampling(kernel_shape):
            x, strides = self._pixels_read(x), [1] * self.rank
        sizes = [1, *kernel_shape] if self.rank == 1 else list(kernel_shape)
        product = self._run(
            "BackpropFilter",
            strides,
            input=self._as_plane(x),
            filter_sizes=tf.constant(sizes),
            out_backprop=self._as_plane(y),
        )
        return product[0] if self.rank == 1 else product

    def rows(self, x, y, kernel_shape):
        """See `Connection.rows`: those of kernels of one tap, but for groups and padding."""
        pointwise = max(kernel_shape[: self.rank]) == 1 and self.groups == 1
        if not pointwise or self.channels_first or self._is_padded:
            return None
        if self._is_subsampling(kernel_shape):
            x = self._pixels_read(x)
        return tuple(tf.reshape(each, [-1, each.shape[-1]]) for each in (x, y))

    def axes(self, kernel_shape):
        """See `Connection.axes`."""
        *rest, filters = kernel_shape
        shape = (*rest, self.groups, filters // self.groups)
        return KernelAxes(shape, (self.rank,), (self.rank + 2,), taps=tuple(range(self.rank)))

    def space(self, shape: Sequence[int | None]) -> Sequence[int | None]:
        """The spatial sizes in the shape of one sample."""
        return shape[1:] if self.channels_first else shape[:-1]

    def _margins(self, axis: int, size: int, taps: int) -> tuple[int, int]:
        """The number of zeros before and after an input of this size."""
        if self.padding != "same":
            return self.pads[axis]
        stride, reach = self.strides[axis], (taps - 1) * self.dilation_rate[axis] + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2

    def per_axis(self, batch, space, channels):
        """A list in the order of the axes."""
        return [batch, channels, *space] if self.channels_first else [batch, *space, channels]

    @property
    def _is_padded(self):
        return any(map(any, self.pads))

    def _padded(self, x):
        return tf.pad(x, self.per_axis((0, 0), self.pads, (0, 0))) if self._is_padded else x

    def _as_plane(self, x):
        return tf.expand_dims(x, self._places[1]) if self.rank == 1 else x

    # Strided 1x1 convolutions (ResNets' projection shortcuts) read only every stride-th pixel. H
    # runs as an unstrided one on those pixels: the same mathematics, and the only way round a fault
    # of TensorFlow 2.21's oneDNN kernels, whose Conv2DBackpropFilter corrupts memory and ends the
    # process for a 1x1 kernel, stride >= 2, batch 1 and few channels (28x28, 8 -> 16: float32 and
    # bfloat16, SAME and VALID, every time; float64 and float16, which do not use oneDNN, never).
    # TensorFlow's own gradients of the other two products would run it, hence those of `op` and
    # `op_transpose`. (Conv2DBackpropInput: sound in 5,120 such shapes, batch 1 among them.)
    def _is_subsampling(self, kernel_shape):
        return max(kernel_shape[: self.rank]) == 1 < max(self.strides)

    def _pixels_read(self, x):
        """The pixels that a kernel of one tap reads."""
        if self.rank == 2 and not self.channels_first:
            # A mean over one pixel: 6 times as fast as a strided slice (56x56x64, batch 16: 0.6 ms
            # where the slice takes 3.8 ms).
            return tf.nn.avg_pool2d(x, 1, self.strides, "VALID")
        steps = self.per_axis(1, self.strides, 1)
        return x[tuple(slice(None, None, step) for step in steps)]

    def _convolve(self, x, kernel):
        def convolve(x, kernel):
            return keras.ops.conv(
                x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
            )

        if self.channels_first and not _has_onednn(x.dtype):
            convolve = _through_xla(convolve)
        return convolve(self._padded(x), kernel)

    def _spread(self, y, kernel, input_shape):
        """The product of `op_transpose`."""
        if self._has_phases(kernel.shape) and y.shape[1:].is_fully_defined():
            known = tf.get_static_value(input_shape)
            if known is not None:
                return self._spread_by_phases(y, kernel, known)
        sizes = input_shape
        if self._is_padded:
            sizes += self.per_axis(0, [sum(p) for p in self.pads], 0)
        if self.rank == 1:
            sizes = tf.concat([sizes[: self._places[1]], [1], sizes[self._places[1] :]], 0)
        x = self._run(
            "BackpropInput",
            self.strides,
            input_sizes=sizes,
            filter=kernel[None] if self.rank == 1 else kernel,
            out_backprop=self._as_plane(y),
        )
        if self.rank == 1:
            x = tf.squeeze(x, self._places[1])
        if self._is_padded:
            x = tf.slice(x, self.per_axis(0, [before for before, _ in self.pads], 0), input_shape)
        return x

    # Pixels of an image whose coordinates differ by multiples of the stride get the same taps: each
    # such phase is a plain convolution of y with every stride-th tap, all of them together one with
    # stride^2 times the channels. TensorFlow 2.21's Conv2DBackpropInput is slow where channels are
    # few and taps many, as in ResNets' first layer (7x7, stride 2, 3 channels, 224 pixels, batch
    # 16): 43 ms and 121 by XLA, where this takes 16 and 37. With 3x3 taps there is nothing to gain.
    def _has_phases(self, kernel_shape) -> bool:
        *taps, channels, _ = kernel_shape
        stride = self.strides[0]
        square = self.strides == (stride, stride) and stride > 1
        plain = not self.channels_first and self.groups == 1 and max(self.dilation_rate) == 1
        return square and plain and channels <= 4 and 3 * stride <= min(taps)

    def _spread_by_phases(self, y, kernel, input_shape):
        """The product of `op_transpose`, for an input whose shape is known."""
        stride, (*taps, channels, filters) = self.strides[0], kernel.shape
        margins, short, pads, split = [], [], [], []
        for axis, size in enumerate(input_shape[1:3]):
            before, _ = self._margins(axis, size, taps[axis])
            own, pixels = -(-taps[axis] // stride), -(-(size + before) // stride)  # a phase's
            margins.append(before)
            short.append([0, stride * own - taps[axis]])
            pads.append([own - 1, pixels - y.shape[1 + axis]])
            split += [own, stride]
        kernel = tf.reshape(tf.pad(kernel, [*short, [0, 0], [0, 0]]), [*split, channels, filters])
        kernel = tf.transpose(tf.reverse(kernel, [0, 2]), [0, 2, 5, 1, 3, 4])
        kernel = tf.reshape(kernel, [*split[::2], filters, stride**2 * channels])
        x = tf.nn.conv2d(y, kernel, 1, [[0, 0], *pads, [0, 0]])
        return tf.slice(tf.nn.depth_to_space(x, stride), [0, *margins, 0], input_shape)

    def _run(self, product: str, strides: Sequence[int], **tensors: tf.Tensor) -> tf.Tensor:
        """Run an adjoint's raw op, through XLA where the CPU has no kernel of its own for it.

        TensorFlow 2.21's CPU kernels for groups, dilations and channels-first are oneDNN's, for
        float32; of the 3-D ones only those for dilations. They take bfloat16 on CPUs with AVX-512
        only, and TensorFlow has oneDNN off by default on CPUs without AVX-512 VNNI or its like.
        Keras steers round the same gap with XLA.

        Args:
            product: `"BackpropInput"` or `"BackpropFilter"`.
            strides: One per spatial axis.
            **tensors: The op's three; a shape stands for the one it is the gradient of.

        Returns:
            The gradient, of that shape and of the dtype of the others.
        """
        dilations = self.dilation_rate
        if self.rank == 1:  # as two spatial axes, the first of size 1: so TensorFlow's 1-D ops do
            strides, dilations = [1, *strides], [1, *dilations]
        layout = "DHW" if self.rank == 3 else "HW"
        raw_op = getattr(tf.raw_ops, f"Conv{len(layout)}D{product}{'V2' * (self.rank == 3)}")

        def run(**tensors):
            return raw_op(
                **tensors,
                strides=self.per_axis(1, strides, 1),
                dilations=self.per_axis(1, dilations, 1),
                padding=self.padding.upper(),
                data_format=f"NC{layout}" if self.channels_first else f"N{layout}C",
            )

        dtype = tensors["out_backprop"].dtype
        arranged = self.groups != 1 or self.channels_first
        special = arranged or max(self.dilation_rate) > 1
        if special and (not _has_onednn(dtype) or (arranged and self.rank == 3)):
            run = _through_xla(run)
        return run(**tensors)


def _has_onednn(dtype: tf.DType) -> bool:
    return _pywrap_util_port.IsMklEnabled() and dtype == tf.float32


def _through_xla(function):
    """`function`, compiled where there is no GPU."""
    if tf.config.list_logical_devices("GPU"):
        return function
    return tf.function(function, jit_compile=True, autograph=False)
