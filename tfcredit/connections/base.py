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

    def crop(
        self, input_shape: Sequence[int], kernel_shape: Sequence[int], share: float
    ) -> Sequence[int]:
        """The shape of a smaller input that the same kernel acts on.

        Args:
            input_shape: Static shape of one sample, without the batch axis.
            kernel_shape: Static shape of the kernel.
            share: How large its spatial axes should be, relative to the input's, in (0, 1].

        Returns:
            The static shape of one sample, whose every spatial axis all taps of the kernel fit
            into; the input's own shape where there is none smaller.
        """
        return input_shape

    @abc.abstractmethod
    def channels(self, kernel_shape: Sequence[int]) -> int:
        """How many weights of each tap are summed in one output: the fan-in per tap."""

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
            f"the input has sizes {tuple(sizes)}, but a calibrated rule counts the positions that "
            "each kernel tap meets and needs them known: give the model a full input shape."
        )
