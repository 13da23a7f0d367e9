"""R as the sum of its primitives' values, for inputs of R without a closed form.

`primitives.value_and_gradient` is the closed form. Here R is built from operations that
TensorFlow differentiates.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.primitives import PRIMITIVES, Seen
from tfcredit.primitives.seen import times
from tfcredit.rules.inputs import AlignmentInputs


def center(x: tf.Tensor) -> tf.Tensor:
    """Subtract the mean of each sample of `x [n, ...]` over all its features and positions."""
    return x - tf.reduce_mean(x, axis=list(range(1, x.shape.rank)), keepdims=True)


def normalize(x: tf.Tensor) -> tf.Tensor:
    """Centre, then scale each sample of `x [n, ...]` to unit L2 norm."""
    x = center(x)
    return tf.math.l2_normalize(x, axis=list(range(1, x.shape.rank)))


def batch_center(x: tf.Tensor) -> tf.Tensor:
    """Subtract the mean over the batch."""
    return x - tf.reduce_mean(x, axis=0, keepdims=True)


def alter_input(x: tf.Tensor, inputs: AlignmentInputs) -> tf.Tensor:
    """Centre and normalize the layer's input as `inputs` asks."""
    if inputs.center_input:
        x = center(x)
    return normalize(x) if inputs.normalize_input else x


def alter_output(x: tf.Tensor, inputs: AlignmentInputs, direction: str) -> tf.Tensor:
    """Centre, normalize, batch-centre a projection or reconstruction as `inputs` asks.

    Args:
        x: The tensor `[n, ...]`.
        inputs: The options.
        direction: `"forward"` or `"backward"`.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    if getattr(inputs, f"center_{direction}_output"):
        x = center(x)
    if getattr(inputs, f"normalize_{direction}_output"):
        x = normalize(x)
    return batch_center(x) if getattr(inputs, f"batch_center_{direction}_output") else x


@dataclasses.dataclass(frozen=True)
class AlteredSeen(Seen):
    """A layer as R sees it where options alter projections and reconstructions.

    Attributes:
        inputs: The options.
        bias: Added to the backward projection, or `None`.
        activation: Applied to the backward projection, or `None`.
        x_backward: The input of the backward projection where it differs from `x`.
    """

    inputs: AlignmentInputs = AlignmentInputs()
    bias: tf.Tensor | None = None
    activation: Callable | None = None
    x_backward: tf.Tensor | None = None

    @property
    def updates_forward(self) -> bool:
        """See `Seen.updates_forward`."""
        return self.inputs.update_forward

    @functools.cached_property
    def projected(self):
        """See `Seen.projected`."""
        forward = alter_output(self.y, self.inputs, "forward")
        return forward, alter_output(self._backward, self.inputs, "backward")

    @functools.cached_property
    def reconstructed(self):
        """See `Seen.reconstructed`."""
        source, through, direction = self.y, self.b, "forward"
        if self.inputs.reconstruction_reversal:
            source, through, direction = self._backward, self.w, "backward"
        through = tf.cast(through, self.x.dtype)
        back = self.connection.op_transpose(source, through, tf.shape(self.x))
        return alter_output(back, self.inputs, direction)

    @property
    def paired(self):
        """See `Seen.paired`."""
        return (self.x, self.reconstructed) if self.inputs.reconstruction_amp else self.projected

    @functools.cached_property
    def _backward(self) -> tf.Tensor:
        """The backward projection before outputs are altered."""
        x = self.x if self.x_backward is None else self.x_backward
        back = self.connection.op(x, tf.cast(self.b, x.dtype))
        back = back if self.bias is None else back + self.bias
        return back if self.activation is None else self.activation(back)


def objective(coefficients: Mapping[str, float | tf.Tensor], seen: AlteredSeen) -> tf.Tensor:
    """R by its definition, for options that leave it without a closed form.

    Args:
        coefficients: Primitive name -> coefficient; `error` is ignored.
        seen: What R sees of the layer, `w` behind a stop-gradient unless options update it too.

    Returns:
        A differentiable scalar in the dtype of B.

    Raises:
        UserError: A primitive that is stated by its gradient.
    """
    total = tf.zeros([], seen.b.dtype)
    for name, coefficient in coefficients.items():
        primitive = PRIMITIVES[name]
        if name == "error":
            continue
        if not primitive.has_value:
            raise UserError(
                f"primitive {name!r} is stated by its gradient, and these inputs of R alter the "
                f"backward projection ({seen.inputs}): leave them out, or write a Rule with a "
                "`loss`."
            )
        total += times(coefficient, primitive.value(seen))
    return total
