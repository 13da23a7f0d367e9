"""Weight mirror with its choices open, the rule of study `mirror`."""

import tensorflow as tf

from tfcredit.rules import Rule, register
from tfcredit.rules.geometry import geometry

AMP, DECAY = 1e-3, 2e-3  # the defaults of weight_mirror


class FactorMirror(Rule):
    """Weight mirror, amp + decay, with three of its choices open.

    Known by name once `register_rule` was called.

    Args:
        noise: Whether R sees unit noise in place of the layer's input.
        calibrated: Whether B forgets towards an unbiased estimate of W for white inputs,
            H(x, y) / (count * mean square of x), as the calibrated rules do; otherwise amp and
            decay have the defaults of `weight_mirror`.
        centred: Whether the batch mean is subtracted from x.
    """

    feedback_optimizer = ("adam", 1e-3)

    def __init__(self, noise: bool = False, calibrated: bool = False, centred: bool = False):
        self.sees_noise, self.calibrated, self.centred = noise, calibrated, centred

    @property
    def noise(self):
        """See `Rule.noise`."""
        return "per_replica" if self.sees_noise else None

    def gradient(self, state, dy, dw):
        """See `Rule.gradient`."""
        connection, b = state.connection, state.feedback_kernel
        x = tf.cast(state.x, b.dtype)
        if self.sees_noise:
            x = tf.ensure_shape(state.noise(tf.shape(x), x.dtype), state.x.shape)
        if self.centred:
            x = x - tf.reduce_mean(x, 0, keepdims=True)
        product = connection.hebbian(x, connection.op(x, state.kernel), b.shape)
        examples = tf.cast(tf.shape(x)[0], b.dtype)
        if not self.calibrated:
            return DECAY * b - AMP * product / examples
        counts = geometry(connection, state.x.shape[1:], state.kernel.shape.as_list()).counts
        power = tf.reduce_mean(tf.square(x))
        return DECAY * (b - product / (examples * tf.constant(counts, b.dtype) * power))

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        own = {name: getattr(self, name) for name in ("calibrated", "centred")}
        return {"noise": self.sees_noise, **own}


def register_rule() -> None:
    """Make the rule known as `factor_mirror`, as its runs need; not by importing this module."""
    register("factor_mirror")(FactorMirror)
