"""Feedback kernels of a fixed direction: of W's norm, or at an angle to the first W."""

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle
from tfcredit.rules.base import LayerState, Rule
from tfcredit.rules.registry import register
from tfcredit.seeding import derive


@register("normalized_feedback_alignment")
class NormalizedFeedbackAlignment(Rule):
    """B <- B |W| / |B| at every training call: a fixed random direction of W's norm. Non-local.

    As feedback alignment, but errors neither vanish nor explode as W grows or shrinks.

    Source: Moskovitz et al. 2018 (arXiv:1812.06488) normalise the feedback weights of
    convolutional networks. That the norms are those of whole kernels, taken anew at each training
    call, is our choice. A kernel B that is zero stays zero.
    """

    def update(self, state: LayerState) -> tf.Tensor:
        """See `Rule.update`."""
        w, b = state.kernel, state.feedback_kernel
        return b * tf.math.divide_no_nan(tf.norm(w), tf.norm(b))


@register("soft_alignment")
class SoftAlignment(Rule):
    """B starts at an angle to W, with W's norm, and never changes. Non-local at the start only.

    B = cos(angle) W_0 + sin(angle) V, with V random, orthogonal to the first forward kernel W_0
    and of its norm (`tfcredit.initializers.AtAngle`, which this rule brings with it).

    Source: the one-time soft alignment of Cheon et al. 2025 (arXiv:2505.20892). That the angle is
    the argument, and its default, are our choice.

    Args:
        angle: Angle between W_0 and B in degrees, in [0, 180]. Default 45.

    Raises:
        UserError: An angle outside the range; another feedback initializer in the layer.
    """

    def __init__(self, angle: float = 45.0):
        if not isinstance(angle, (int, float)) or not 0 <= angle <= 180:
            raise UserError(f"angle={angle!r} is out of range: give degrees from 0 to 180.")
        self.angle = float(angle)

    def initializer(self, given, seed: int) -> AtAngle:
        """See `Rule.initializer`."""
        own = AtAngle(self.angle, derive(seed, "feedback_kernel"))
        given = keras.initializers.get(given)
        if given is None:
            return own
        if not isinstance(given, AtAngle) or given.degrees != self.angle:
            raise UserError(
                f"feedback_initializer={given!r} and rule soft_alignment(angle={self.angle:g}) "
                "contradict each other: leave the initializer out, or use rule feedback_alignment."
            )
        return given

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"angle": self.angle}
