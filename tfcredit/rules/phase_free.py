"""The calibrated mirror without a phase of its own: noise rides on the activity."""

import math

import tensorflow as tf

from tfcredit import checks
from tfcredit.rules.base import Rule
from tfcredit.rules.geometry import geometry
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState, replicas

LEAST_FRACTION, LARGEST_FRACTION = 0.05, 0.5


@register("phase_free_mirror")
class PhaseFreeMirror(Rule):
    """B <- B - g (B - H(p / s^2, y) / (n counts)), with p the noise in the activity itself. Local.

    In training calls every input neuron of the layer adds noise p of standard deviation s of its
    own to its activity, so that x = activity + p and y = op(x; W), here minus its mean over the
    batch. The mean of H(p / s^2, y) / (n counts) is W. Besides, B gets dW through W's optimizer as
    in Kolen-Pollack's rule: B follows W however small g is, and only their difference is averaged
    away.

    The activity is noise to the estimate: per weight its variance is m / (s^2 n counts), with the
    mean square m of y. For white activity and s = fraction * std(activity), B settles at

        tan(angle)^2 = g / (2 - g) * variance / n * (1 + 1 / fraction^2)

    with `variance` as in `Geometry`; the phase of `calibrated_mirror` saves 1 / fraction^2. From
    the angle and the gain asked for the layer computes the fraction, within [0.05, 0.5]. What the
    activity really costs it measures: r = m / (s^2 n counts) over B's mean square is one
    estimate's error relative to W, and g is the lesser of `gain` and the one that gives the angle,
    2 sin^2 / (r + sin^2), but at step t at least 1 / (t + 1 + r / 2): the average of what the
    steps tell and of what B was at first, each by its worth.

    It loses to `calibrated_mirror` where few terms meet many inputs (dense layers, which have one
    position per sample) and on correlated activity: fraction and gain come to their limits, so
    that the noise disturbs the task and the angle falls as 1 / sqrt(t) for thousands of steps.
    Convolutions between batch norms reach their angle. Opposite noise in the halves of the batch
    gives nothing that centring does not; to subtract op(x; B) from y would run B forward, which
    `calibrated_activation` does with less noise. What moves W alone, such as its regularisation, B
    follows with a lag of some 1 / g steps.

    Args:
        angle: Angle between B and W to settle at, in degrees, in (0, 90). Default 10.
        gain: Largest share of the estimate that one step replaces, in (0, 1]. Default 0.01.

    Raises:
        UserError: A value outside these ranges.

    Source: noise on the activity itself as in phaseless alignment learning (Max et al. 2022,
    arXiv:2212.10249); the calibration, the choice of gain and fraction and the share of dW are this
    package's.
    """

    noise = "per_replica"
    follows_forward = True
    linear_in_error = True

    def __init__(self, angle: float = 10.0, gain: float = 0.01):
        self.angle = checks.number("angle", angle, above=0, below=90, unit="degrees")
        self.gain = checks.number("gain", gain, above=0, at_most=1)

    def gradient(self, state: LayerState, dy: tf.Tensor, dw: tf.Tensor) -> tf.Tensor:
        """See `Rule.gradient`: B follows W."""
        return dw

    def fraction(self, variance: float, samples: int | tf.Tensor) -> tf.Tensor:
        """Standard deviation of the noise over that of the activity.

        Args:
            variance: That of the layer's `Geometry`.
            samples: The batch size.

        Returns:
            A float32 scalar in [0.05, 0.5].
        """
        # One step's error without activity; what is left of the angle goes to the activity.
        own = self.gain / (2.0 - self.gain) * variance / tf.cast(samples, tf.float32)
        asked = math.tan(math.radians(self.angle)) ** 2
        square = tf.where(own < asked, own / tf.maximum(asked - own, 1e-9), LARGEST_FRACTION**2)
        return tf.clip_by_value(tf.sqrt(square), LEAST_FRACTION, LARGEST_FRACTION)

    def perturbation(self, state: LayerState) -> tf.Tensor:
        """See `Rule.perturbation`."""
        x, dtype = state.x, state.kernel.dtype
        layer = geometry(state.connection, x.shape[1:], state.kernel.shape.as_list())
        activity = tf.cast(x, dtype)
        activity -= tf.reduce_mean(activity, 0, keepdims=True)
        spread = tf.sqrt(_mean(activity**2))
        fraction = tf.cast(self.fraction(layer.variance, tf.shape(x)[0] * replicas()), dtype)
        return tf.ensure_shape(fraction * spread * state.noise(tf.shape(x), dtype), x.shape)

    def update(self, state: LayerState) -> tf.Tensor:
        """See `Rule.update`."""
        b, shape = state.feedback_kernel, state.kernel.shape
        layer = geometry(state.connection, state.x.shape[1:], shape.as_list())
        p, y = (tf.cast(each, b.dtype) for each in (state.perturbation, state.y))
        y -= tf.reduce_mean(y, 0, keepdims=True)
        # (n - 1) s^2 of this very noise: one degree of freedom went with the mean of y.
        n = tf.cast(tf.shape(p)[0], b.dtype)
        square = tf.maximum(n - 1.0, 0.0) * _mean(p**2)
        product = state.connection.hebbian(p, tf.math.divide_no_nan(y, square), shape)
        estimate = product / tf.constant(layer.counts, b.dtype)
        error = tf.math.divide_no_nan(_mean(y**2), square)
        error *= tf.reduce_mean(tf.constant(layer.met / layer.counts, b.dtype))
        if replicas() > 1:
            # Each replica's estimate by its worth: one of a single sample, or none, has none.
            replica = tf.distribute.get_replica_context()
            parts = [square * estimate, square**2 * error, square]
            estimate, error, square = replica.all_reduce("sum", parts)
            estimate = tf.math.divide_no_nan(estimate, square)
            error = tf.math.divide_no_nan(error, square**2)
        ratio = tf.math.divide_no_nan(error, tf.reduce_mean(b**2))
        # B's mean square holds its error, too, so that the sine stands for the tangent.
        asked = math.sin(math.radians(self.angle)) ** 2
        gain = 2.0 * asked / (ratio + asked)
        gain = tf.maximum(
            tf.minimum(gain, self.gain), 1.0 / (tf.cast(state.step + 1, b.dtype) + ratio / 2.0)
        )
        return tf.where(square > 0, b + gain * (estimate - b), b)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"angle": self.angle, "gain": self.gain}


def _mean(tensor: tf.Tensor) -> tf.Tensor:
    """The mean, 0 of no samples."""
    total = tf.reduce_sum(tensor)
    return tf.math.divide_no_nan(total, tf.cast(tf.size(tensor), tensor.dtype))
