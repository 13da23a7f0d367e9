"""Transposed convolutions."""

from collections.abc import Sequence

import tensorflow as tf

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.base import Connection
from tfcredit.connections.convolution import ConvConnection


class TransposedConnection(Connection):
    """A convolution run backwards, with `W [*space, filters, channels]`.

    Args:
        inner: The convolution that it is the transpose of, without explicit padding.
        output_padding: Pixels per spatial axis, less than the stride, that the output is longer
            than it need be; `None` for the longest output without padding, as in Keras.
    """

    def __init__(self, inner: ConvConnection, output_padding: Sequence[int] | None = None):
        self.inner, self.output_padding = inner, output_padding

    def op(self, x, kernel):
        """See `Connection.op`."""
        shape = [tf.shape(x)[i] if size is None else size for i, size in enumerate(x.shape)]
        sizes = self._output_sizes(self.inner.space(shape[1:]), kernel.shape)
        shape = self.inner.per_axis(shape[0], sizes, kernel.shape[-2])
        return self.inner.op_transpose(x, kernel, tf.stack(shape))

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        return self.inner.op(y, kernel)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        return self.inner.hebbian(y, x, kernel_shape)

    def axes(self, kernel_shape):
        """See `Connection.axes`."""
        *taps, outputs, inputs = range(len(kernel_shape))
        return KernelAxes(tuple(kernel_shape), (inputs,), (outputs,), taps, scatters=True)

    def _output_sizes(self, sizes, kernel_shape):
        """The output's spatial sizes, as Keras has them."""
        result = []
        for axis, size in enumerate(sizes):
            stride, dilation = self.inner.strides[axis], self.inner.dilation_rate[axis]
            reach = (kernel_shape[axis] - 1) * dilation + 1
            if self.output_padding is not None:
                least = reach if self.inner.padding == "valid" else reach % 2
                extra = least + self.output_padding[axis] - stride
            else:
                extra = max(reach - stride, 0) if self.inner.padding == "valid" else 0
            result.append(size * stride + extra)
        return result
