"""Fixed feedback kernels: random, of W's norm, or at an angle to the first W."""

import tensorflow as tf

from tfcredit import checks
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState


@register("feedback_alignment")
class FeedbackAlignment(Rule):
    """B is random and never changes (Lillicrap et al. 2016).

    The forward kernels turn towards B instead, which suffices for shallow networks only.
    """


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
        self.angle = checks.number("angle", angle, at_least=0, at_most=180, unit="degrees")

    @property
    def start_angle(self) -> float:
        """See `Rule.start_angle`."""
        return self.angle

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"angle": self.angle}
