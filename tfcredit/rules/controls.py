"""Controls of claims: a kernel that never learns, and a B that is copied from W now and then."""

import tensorflow as tf

from tfcredit import checks, noise
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState
from tfcredit.seeding import derive


@register("frozen")
class Frozen(Rule):
    """Kernel and bias of the layer stay as they were drawn: the baseline of random features.

    What a rule reaches counts for nothing where a network whose blocks are random and frozen
    reaches more: the check of "depth utility" of Hao, Wan & Zhai 2026 (arXiv:2606.21126).

    Errors travel through W, as in backprop, so that all that still learns below and between such
    layers learns as well as it can: the baseline is the highest of its kind, and no second fixed
    kernel adds chance to it. In a functional or sequential network the layer that gives the output
    learns by backprop all the same (`tfcredit.models.wire`); its `trainable` freezes it too. Layers
    that have no rule, such as batch norm, learn on: freeze those of a block by their `trainable`.
    """

    has_feedback_kernel = False
    trains_kernel = False


@register("frozen_backprop")
class FrozenBackprop(Rule):
    """B <- W at every so many training calls, or a part of it by turns. Non-local: reads W.

    The control of rules that estimate W: how often would it have to be transported? The first
    training call transports whole kernels. After n calls each weight was transported
    `transports_per_weight(n)` times.

    Source: Goupy, Tirilly & Bilasco 2025 (arXiv:2505.13741), for spiking networks. Their partial
    transport chooses weights in three ways; ours takes turns: each weight gets its turn at random,
    by the layer's seed, and keeps it.

    Args:
        every: Training calls from one transport to the next, a positive integer. Default 100.
        fraction: Share of each kernel's weights that a transport copies, in (0, 1]. Default 1.

    Raises:
        UserError: A value outside these ranges.

    Example:
        >>> FrozenBackprop(every=100, fraction=0.5).transports_per_weight(1001)
        6.0
    """

    counts_steps = True

    def __init__(self, every: int = 100, fraction: float = 1.0):
        self.every = checks.integer("every", every, at_least=1)
        self.fraction = checks.number("fraction", fraction, above=0, at_most=1)

    def transports_per_weight(self, steps: int) -> float:
        """How often a weight was transported, in the mean.

        Args:
            steps: Training calls.

        Returns:
            A number of at most `steps`.
        """
        return 1.0 + (steps - 1) // self.every * self.fraction if steps else 0.0

    def update(self, state: LayerState) -> tf.Tensor:
        """See `Rule.update`."""
        due = tf.equal(state.step % self.every, 0)
        return tf.cond(due, lambda: self._transported(state), lambda: state.feedback_kernel)

    def _transported(self, state: LayerState) -> tf.Tensor:
        w, b = tf.stop_gradient(state.kernel), state.feedback_kernel
        if self.fraction == 1.0:
            return w
        # A weight's place in the turn, uniform in [0, 1); noise is between -sqrt(3) and sqrt(3).
        drawn = noise.fixed(derive(state.seed, "turn"), w.shape, tf.float32, "uniform")
        place = drawn / 12**0.5 + 0.5
        turn = tf.cast(state.step // self.every - 1, tf.float64) * self.fraction
        passed = place - tf.cast(turn % 1.0, tf.float32)
        its_turn = passed - tf.floor(passed) < self.fraction
        return tf.where(its_turn | tf.equal(state.step, 0), w, b)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"every": self.every, "fraction": self.fraction}
