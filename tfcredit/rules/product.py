"""Product feedback: errors travel through a fixed random matrix and a learned kernel behind it."""

import math
from typing import Any

import tensorflow as tf

from tfcredit import checks, noise
from tfcredit.rules.alignment import NamedAlignmentRule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState
from tfcredit.seeding import derive


class ProductRule(NamedAlignmentRule):
    """Errors travel through R (Q dy): Q is random and fixed, R gets H(x, Q dy) + decay R.

    Q `[width, outputs]` has uniform numbers of variance 1 / max(width, outputs). Nothing but the
    product B = R Q of the shape of W acts, so that B is what the layer keeps. Where an optimizer
    is linear in gradients, as SGD and momentum are, R's step makes B's step the one for

        dB = (error dW + decay B) with error dW = error H(x, dy) Q^T Q

    and the rule is exact; with adaptive optimizers or clipped gradients it is a rule of its own.
    B starts as A Q^T Q, with A from the feedback initializer: R as A Q^T. Q is drawn from the
    layer's seed at each step rather than kept. Groups, and the channels of a depthwise kernel, are
    mixed apart, by one Q for all.
    """

    defaults = {"error": 1.0, "decay": 2e-3}
    follows_forward = True

    def width(self, outputs: int) -> int:
        """The number of rows of Q for so many outputs."""
        raise NotImplementedError

    def gradient(self, state: LayerState, dy: tf.Tensor, dw: tf.Tensor) -> tf.Tensor:
        """See `Rule.gradient`."""
        change = tf.cast(super().gradient(state, dy, dw), state.feedback_kernel.dtype)
        return tf.cast(self._projected(state, change), dw.dtype)

    def initial(self, state: LayerState, drawn: tf.Tensor) -> tf.Tensor:
        """See `Rule.initial`."""
        return self._projected(state, drawn)

    def _projected(self, state: LayerState, kernel: tf.Tensor) -> tf.Tensor:
        """`kernel` times Q^T Q on its outputs."""
        axes = state.connection.axes(kernel.shape.as_list())
        last = list(axes.outputs)
        order = [axis for axis in range(len(axes.shape)) if axis not in last] + last
        outputs = math.prod(axes.shape[axis] for axis in last)
        ordered = tf.transpose(tf.reshape(kernel, axes.shape), order)
        q = self.projection(outputs, state.seed, kernel.dtype)
        mixed = tf.reshape(ordered, [-1, outputs]) @ tf.matmul(q, q, transpose_a=True)
        back = [order.index(axis) for axis in range(len(order))]
        return tf.reshape(tf.transpose(tf.reshape(mixed, ordered.shape), back), kernel.shape)

    def projection(self, outputs: int, seed: int, dtype: tf.DType) -> tf.Tensor:
        """Q of a layer.

        Args:
            outputs: The number of outputs that share their inputs.
            seed: The layer's seed.
            dtype: Its floating dtype.

        Returns:
            A tensor `[width, outputs]` of variance 1 / max(width, outputs).
        """
        width = self.width(outputs)
        drawn = noise.fixed(derive(seed, "product"), [width, outputs], dtype, "uniform")
        return drawn / math.sqrt(max(width, outputs))


@register("product_feedback_alignment")
class ProductFeedbackAlignment(ProductRule):
    """Errors travel through R (Q dy), Q wide, random and fixed: B follows W Q^T Q. Local.

    No two neurons are joined by a forward and a feedback synapse of like weights, but
    dB = H(x, dy) Q^T Q + decay B, and Q^T Q is near the identity: for a W that is random as seen
    from Q, B comes as near to W as tan(angle)^2 = outputs / width (27 degrees by default).

    Source: Li & Benna 2024 (arXiv:2405.20594); the distribution of Q is that of their code. Ours:
    the default width, and that R starts at A Q^T (see `ProductRule`, also on optimizers).

    Args:
        width: Rows of Q per output, >= 1. Default 4.
        **options: As `KolenPollack` takes them: `error`, `decay`, `inputs`, `rate`.

    Raises:
        UserError: A width below 1.
    """

    def __init__(self, width: float = 4.0, **options: Any):
        super().__init__(**options)
        self.relative_width = checks.number("width", width, at_least=1)

    def width(self, outputs: int) -> int:
        """See `ProductRule.width`."""
        return round(self.relative_width * outputs)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"width": self.relative_width, **super().get_config()}


@register("low_rank_feedback")
class LowRankFeedback(ProductRule):
    """Errors travel through R (Q dy), Q of few rows: B has their rank and follows W Q^T Q. Local.

    dB = H(x, dy) Q^T Q + decay B, where Q^T Q is near a projection. B comes as near to W as
    tan(angle)^2 = outputs / rank, for a W that is random as seen from Q.

    Related: the low-dimensional feedback of Hanut & Kadmon 2025 (arXiv:2502.20580), who also learn
    the projection; here it is fixed, as in `ProductFeedbackAlignment`, which this rule is for a
    narrow Q.

    Args:
        rank: Rows of Q, a positive integer; as many as outputs where a layer has fewer outputs.
            Default 10.
        **options: As `KolenPollack` takes them: `error`, `decay`, `inputs`, `rate`.

    Raises:
        UserError: A rank that is no positive integer.
    """

    def __init__(self, rank: int = 10, **options: Any):
        super().__init__(**options)
        self.rank = checks.integer("rank", rank, at_least=1)

    def width(self, outputs: int) -> int:
        """See `ProductRule.width`."""
        return min(self.rank, outputs)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"rank": self.rank, **super().get_config()}
