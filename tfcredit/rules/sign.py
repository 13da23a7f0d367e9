"""Sign symmetry: feedback kernels that share the signs of W, not its magnitudes."""

import math

import tensorflow as tf

from tfcredit import checks, noise
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState
from tfcredit.seeding import derive

VARIANTS = ("usf", "brsf", "frsf")


@register("sign_symmetry")
class SignSymmetry(Rule):
    """B = M sign(W), renewed at every training call (Liao et al. 2016; Moskovitz et al. 2018).

    Args:
        variant: What the magnitudes M are.
            `"usf"` (uniform): sqrt(2 / (fan_in + fan_out)), the standard deviation of a Glorot
            kernel, for all synapses.
            `"brsf"` (batchwise random): the magnitude of a fresh normal draw of that standard
            deviation at every step, alike on every replica.
            `"frsf"` (fixed random): the magnitudes that the feedback initializer drew, for ever.
        concordance: Probability that a feedback weight has the sign of its forward weight, in
            [0, 1]; the others have the opposite one, for ever the same ones, by the layer's seed.
            Liao et al. 2016 (arXiv:1510.05067) vary it. Default 1.

    sign(0) counts as -1, so that no magnitude is lost. Between a change of W and the next training
    call B holds the signs of the last call.

    Raises:
        UserError: An unknown variant, or a concordance outside the range.
    """

    def __init__(self, variant: str = "usf", concordance: float = 1.0):
        self.variant = checks.choice("variant", variant, VARIANTS)
        self.concordance = checks.number("concordance", concordance, at_least=0, at_most=1)

    @property
    def noise(self) -> str | None:
        """See `Rule.noise`."""
        return "shared" if self.variant == "brsf" else None

    def update(self, state: LayerState) -> tf.Tensor:
        """See `Rule.update`."""
        w, b = state.kernel, state.feedback_kernel
        scale = math.sqrt(2.0 / sum(state.connection.axes(w.shape.as_list()).fans))
        if self.variant == "usf":
            magnitude = tf.fill(w.shape, tf.constant(scale, b.dtype))
        elif self.variant == "brsf":
            magnitude = scale * tf.abs(state.noise(w.shape, b.dtype))
        else:
            magnitude = tf.abs(b)
        if self.concordance < 1.0:
            magnitude = tf.where(self._discordant(state), -magnitude, magnitude)
        # One pass over the kernel, where a comparison, a negation and a choice are three: the
        # gradient of x -> max(x, -x), as that of a leaky ReLU of slope -1.
        return tf.raw_ops.LeakyReluGrad(gradients=magnitude, features=w, alpha=-1.0)

    def _discordant(self, state: LayerState) -> tf.Tensor:
        """True for feedback weights whose sign is not that of their forward weight."""
        seed = derive(state.seed, "concordance")
        draw = noise.fixed(seed, state.kernel.shape, tf.float32, "uniform")
        # Of variance 1: between -sqrt(3) and sqrt(3).
        return draw > math.sqrt(3.0) * (2.0 * self.concordance - 1.0)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"variant": self.variant, "concordance": self.concordance}


class _Variant(SignSymmetry):
    """A variant under a name of its own, that of the class in lower case."""

    def __init__(self, concordance: float = 1.0):
        super().__init__(type(self).__name__.lower(), concordance)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"concordance": self.concordance}


@register("usf")
class USF(_Variant):
    """`SignSymmetry(variant="usf")`: one magnitude for all synapses."""


@register("brsf")
class BRSF(_Variant):
    """`SignSymmetry(variant="brsf")`: magnitudes drawn afresh at every step."""


@register("frsf")
class FRSF(_Variant):
    """`SignSymmetry(variant="frsf")`: magnitudes drawn once."""
