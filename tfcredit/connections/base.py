"""The interface of all connections."""

import abc
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.errors import UserError


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
            One float64 array `[positions, taps]` of zeros and ones per spatial axis of the kernel;
            a single one of one tap for kernels without such axes.

        Raises:
            UserError: A size of `input_shape` that is needed is unknown (`None`).
        """

    @abc.abstractmethod
    def channels(self, kernel_shape: Sequence[int]) -> int:
        """How many weights of each tap are summed in one output: the fan-in per tap."""

    @abc.abstractmethod
    def summed(self, kernel_shape: Sequence[int]) -> list[int]:
        """The kernel's axes along which the weights of one output meet one position of the input.

        A position is what the kernel is laid upon: a receptive field of a convolution, a pixel of
        a transposed one, which writes a field.
        """

    def field_size(self, kernel_shape: Sequence[int]) -> int:
        """How many numbers such a position holds: the weights that its output sums over."""
        return math.prod(kernel_shape[axis] for axis in self.summed(kernel_shape))

    def field_op(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """`op` on inputs of one position each, as a product of matrices.

        Args:
            x: What the position holds, `[n, field_size]`, in the order of the axes `summed`; all
                groups of channels hold the same.
            kernel: The kernel.

        Returns:
            `[n, columns]`: a column for each weight that one number of `x` has.
        """
        order = self._order(kernel.shape)
        if order != sorted(order):
            kernel = tf.transpose(kernel, order)
        return tf.matmul(x, tf.reshape(kernel, [x.shape[1], -1]))

    def field_hebbian(self, x: tf.Tensor, y: tf.Tensor, kernel_shape: Sequence[int]) -> tf.Tensor:
        """The adjoint of `field_op` in its kernel: `x` times `y`, summed over the samples."""
        order = self._order(kernel_shape)
        product = tf.matmul(x, y, transpose_a=True)
        product = tf.reshape(product, [kernel_shape[axis] for axis in order])
        if order == sorted(order):
            return product
        return tf.transpose(product, [order.index(axis) for axis in range(len(order))])

    def _order(self, kernel_shape: Sequence[int]) -> list[int]:
        """The kernel's axes, those of `summed` first."""
        summed = self.summed(kernel_shape)
        return summed + [axis for axis in range(len(kernel_shape)) if axis not in summed]

    def fans(self, kernel_shape: Sequence[int]) -> tuple[int, int]:
        """Fan-in and fan-out, as Keras' initializers count them for a kernel of this shape."""
        *field, inputs, outputs = kernel_shape
        return math.prod(field) * inputs, math.prod(field) * outputs

    def outputs(self, kernel_shape: Sequence[int]) -> tuple[list[int], list[int]]:
        """Where a kernel holds the outputs that share their inputs.

        Args:
            kernel_shape: Static shape of the kernel.

        Returns:
            The kernel's shape, with an axis of its own for groups, and the axes of that shape
            along which the weights of one input go to outputs of one group.
        """
        return list(kernel_shape), [len(kernel_shape) - 1]


def require_static(sizes: Sequence[int | None]) -> None:
    """Refuse sizes that are known at run time only."""
    if None in sizes:
        raise UserError(
            f"the input has sizes {tuple(sizes)}, but this rule counts the positions that each "
            "kernel tap meets and needs them known: give the model a full input shape."
        )
