"""The interface of all connections."""

import abc
from collections.abc import Sequence

import tensorflow as tf

from tfcredit.connections.axes import KernelAxes


class Connection(abc.ABC):
    """The three products of one layer, and what its kernel's axes stand for.

    Inputs `x` and pre-activations `y` have the batch on axis 0. Two products are the adjoints of
    the first: `<op(x; W), y> = <x, op_transpose(y; W)> = <W, hebbian(x, y)>`.
    """

    @abc.abstractmethod
    def op(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The forward product `op(x; kernel)` of shape `[n, ...]`, without bias and activation."""

    @abc.abstractmethod
    def op_transpose(self, y: tf.Tensor, kernel: tf.Tensor, input_shape: tf.Tensor) -> tf.Tensor:
        """The adjoint of `op` in its input: a tensor of shape `input_shape`."""

    @abc.abstractmethod
    def hebbian(self, x: tf.Tensor, y: tf.Tensor, kernel_shape: Sequence[int]) -> tf.Tensor:
        """The adjoint of `op` in its kernel: `x` times `y`, summed over batch and space.

        A tensor of shape `kernel_shape`.
        """

    @abc.abstractmethod
    def axes(self, kernel_shape: Sequence[int]) -> KernelAxes:
        """The meaning of the axes of a kernel of this shape."""

    def on_fields(self, kernel_shape: Sequence[int]) -> "Connection":
        """The same kernel on inputs that each fill one receptive field.

        Args:
            kernel_shape: Static shape of the kernel.

        Returns:
            A connection with `x [n, fan_in]`, in the order of `KernelAxes.field`, alike in all
            groups, and `y [n, columns]`: a column for each weight that one number of `x` meets.
        """
        return FieldConnection(self.axes(kernel_shape))

    def rows(
        self, x: tf.Tensor, y: tf.Tensor, kernel_shape: Sequence[int]
    ) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Input and pre-activation as `on_fields` takes them, where each position is one sample.

        Args:
            x: `[n, ...]`.
            y: Of the shape of `op(x; kernel)`.
            kernel_shape: Static shape of the kernel.

        Returns:
            `x [samples, fan_in]` and `y [samples, columns]` without a copy of either, with which
            the three products are those of `on_fields`; or `None` where positions share inputs,
            groups have inputs of their own, or the order of axes asks for a copy.
        """
        return None


class FieldConnection(Connection):
    """A kernel as a matrix product on receptive fields; see `Connection.on_fields`.

    Args:
        axes: What the kernel's axes stand for.
    """

    def __init__(self, axes: KernelAxes):
        self._axes = axes
        field = axes.field
        self._order = [*field, *(i for i in range(len(axes.shape)) if i not in field)]
        self._is_ordered = self._order == sorted(self._order)

    def op(self, x, kernel):
        """See `Connection.op`."""
        return tf.matmul(x, self.matrix(kernel))

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        return tf.matmul(y, self.matrix(kernel), transpose_b=True)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        return self.kernel(tf.matmul(x, y, transpose_a=True), kernel_shape)

    def axes(self, kernel_shape):
        """See `Connection.axes`."""
        return self._axes

    def matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        """A kernel as a matrix `[fan_in, columns]`."""
        if not self._is_ordered:
            kernel = tf.transpose(tf.reshape(kernel, self._axes.shape), self._order)
        return tf.reshape(kernel, [self._axes.fan_in, -1])

    def kernel(self, matrix: tf.Tensor, kernel_shape: Sequence[int]) -> tf.Tensor:
        """The inverse of `matrix`: a tensor of shape `kernel_shape`."""
        if not self._is_ordered:
            matrix = tf.reshape(matrix, [self._axes.shape[axis] for axis in self._order])
            matrix = tf.transpose(matrix, [self._order.index(i) for i in sorted(self._order)])
        return tf.reshape(matrix, kernel_shape)
