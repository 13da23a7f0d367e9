"""The matrix product."""

import tensorflow as tf

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.base import Connection


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

    def rows(self, x, y, kernel_shape):
        """See `Connection.rows`."""
        return _rows(x), _rows(y)

    def axes(self, kernel_shape):
        """See `Connection.axes`."""
        return KernelAxes(tuple(kernel_shape), inputs=(0,), outputs=(1,))


def _rows(x: tf.Tensor) -> tf.Tensor:
    return x if x.shape.rank == 2 else tf.reshape(x, [-1, x.shape[-1]])
