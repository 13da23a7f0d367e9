"""Convolutions that keep each channel to itself."""

import keras
import tensorflow as tf

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.convolution import ConvConnection


class DepthwiseConnection(ConvConnection):
    """Convolution of each channel with `W [*space, channels, multiplier]`, on one or two axes.

    It is a convolution of as many groups as channels, and its adjoints run as such. The arguments
    are those of `ConvConnection` without `groups`.
    """

    def __init__(
        self, strides=(1, 1), padding="valid", dilation_rate=None, data_format="channels_last"
    ):
        super().__init__(strides, padding, dilation_rate, data_format, groups=None)

    def _convolve(self, x, kernel):
        return keras.ops.depthwise_conv(
            self._padded(x),
            kernel,
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )

    def _spread(self, y, kernel, input_shape):
        return super()._spread(y, tf.reshape(kernel, _grouped(kernel.shape)), input_shape)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        return tf.reshape(super().hebbian(x, y, _grouped(kernel_shape)), kernel_shape)

    def axes(self, kernel_shape):
        """See `Connection.axes`: each channel is a group."""
        taps = tuple(range(self.rank))
        return KernelAxes(tuple(kernel_shape), (), outputs=(self.rank + 1,), taps=taps)


def _grouped(kernel_shape) -> list[int]:
    *space, channels, multiplier = kernel_shape
    return [*space, 1, channels * multiplier]
