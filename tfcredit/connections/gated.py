"""Matrix products of several inputs, each with its own columns of the kernel."""

import tensorflow as tf

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.base import Connection


class GatedConnection(Connection):
    """`y_g = x_g W_g`, as the gates of a recurrent cell that see inputs of their own.

    `x [batch, ..., gates, inputs]`, `W [inputs, gates * units]`, `y [batch, ..., gates * units]`.

    Args:
        gates: Their number.
    """

    def __init__(self, gates: int):
        self.gates = gates

    def op(self, x, kernel):
        """See `Connection.op`."""
        y = tf.einsum("...gi,igo->...go", x, self._split(kernel))
        return tf.reshape(y, tf.concat([tf.shape(y)[:-2], tf.shape(kernel)[1:]], 0))

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        x = tf.einsum("...go,igo->...gi", self._split(y), self._split(kernel))
        return tf.reshape(x, input_shape)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        rows = tf.reshape(x, [-1, *x.shape[-2:]])
        errors = tf.reshape(self._split(y), [-1, self.gates, y.shape[-1] // self.gates])
        return tf.reshape(tf.einsum("ngi,ngo->igo", rows, errors), kernel_shape)

    def axes(self, kernel_shape):
        """See `Connection.axes`: each gate is a group."""
        inputs, columns = kernel_shape
        return KernelAxes((inputs, self.gates, columns // self.gates), inputs=(0,), outputs=(2,))

    def _split(self, columns: tf.Tensor) -> tf.Tensor:
        """The last axis as two: gates and units."""
        shape = [tf.shape(columns)[:-1], [self.gates, columns.shape[-1] // self.gates]]
        return tf.reshape(columns, tf.concat(shape, 0))
