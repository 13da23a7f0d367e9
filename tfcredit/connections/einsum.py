"""Tensor products in Einstein's notation."""

import string

import keras
import tensorflow as tf

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.base import Connection
from tfcredit.errors import UserError


class EinsumConnection(Connection):
    """`y = einsum(equation, x, W)`, as `keras.layers.EinsumDense` computes it.

    An axis of `x` or `W` is summed over where the output does not have it. Axes of `x` that the
    output keeps are positions, unless the kernel has them too: then each has weights of its own.

    Args:
        equation: Such as `"abc,cde->abde"`; the first axis of input and output is the batch.
            `...` stands for further axes that input and output share.
        rank: Number of axes of `x`, the batch included.

    Raises:
        UserError: An axis that only one of the three tensors has, or that one has twice; an
            output whose first axis is not the batch. The products would not be each other's
            adjoints, or not sums over samples.
    """

    def __init__(self, equation: str, rank: int):
        self.equation = equation
        operands, output = equation.replace(" ", "").split("->")
        inputs, kernel = operands.split(",")
        unused = [letter for letter in string.ascii_letters if letter not in equation]
        elided = "".join(unused[: rank - len(inputs.replace("...", ""))])
        inputs, output = (spec.replace("...", elided) for spec in (inputs, output))
        for spec in (inputs, kernel, output):
            for axis in spec:
                if spec.count(axis) > 1:
                    self._refuse(f"axis {axis!r} is there twice in {spec!r}")
                if sum(axis in each for each in (inputs, kernel, output)) < 2:
                    self._refuse(f"axis {axis!r} is in {spec!r} only")
        if inputs[0] != output[0] or inputs[0] in kernel:
            self._refuse("the first axis of the input must be the batch, and the output's first")
        self._inputs, self._kernel, self._output = inputs, kernel, output

    def op(self, x, kernel):
        """See `Connection.op`."""
        return keras.ops.einsum(self.equation, x, kernel)

    def op_transpose(self, y, kernel, input_shape):
        """See `Connection.op_transpose`."""
        return tf.einsum(f"{self._output},{self._kernel}->{self._inputs}", y, kernel)

    def hebbian(self, x, y, kernel_shape):
        """See `Connection.hebbian`."""
        return tf.einsum(f"{self._inputs},{self._output}->{self._kernel}", x, y)

    def rows(self, x, y, kernel_shape):
        """See `Connection.rows`: those of equations that multiply matrices but for a reshape."""
        kept = self._inputs[: self._inputs.find(self._kernel[0])]
        summed = self._inputs[len(kept) :]
        made = self._output[len(kept) :]
        if not (kept and made and self._output.startswith(kept) and self._kernel == summed + made):
            return None
        axes = self.axes(kernel_shape)
        return tf.reshape(x, [-1, axes.fan_in]), tf.reshape(y, [-1, axes.columns])

    def axes(self, kernel_shape):
        """See `Connection.axes`: axes that only one of input and output shares with the kernel."""
        inputs = tuple(i for i, axis in enumerate(self._kernel) if axis not in self._output)
        outputs = tuple(i for i, axis in enumerate(self._kernel) if axis not in self._inputs)
        return KernelAxes(tuple(kernel_shape), inputs, outputs)

    def _refuse(self, why: str):
        raise UserError(
            f"equation {self.equation!r} can't have a feedback kernel: {why}; use rule='backprop'."
        )
