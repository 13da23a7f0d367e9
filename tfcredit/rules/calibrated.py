"""Calibrated rules: B estimates W from noise of the layer's own, with nothing to tune.

For unit noise xi of k samples, each of which fills one receptive field of fan_in numbers,
H(xi, op(xi; W)) / k is an unbiased estimate of W, whatever the layer's input. The noise is of
signs: xi_a^2 is 1, so that an estimate of a weight errs by the other fan_in - 1 only. B is a
running estimate, kept like batch norm's moving statistics: not trainable, renewed in the training
call, alike on every replica.
"""

import math

import tensorflow as tf

from tfcredit import checks
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState

# A bound on the memory of one step's noise; a layer that would need more is less exact.
MAX_NUMBERS = 2**27
# How many samples share a number, at most.
MAX_SHARES = 8
# What a mirror sees of its lag counts as far as it exceeds so many standard deviations. It draws as
# many samples as make these at most the error that it is asked for. (`conv` at a rate of 0.02 with
# Nesterov's momentum 0.9, 300 steps of 32: one run of 5 ends more than 4 points behind backprop;
# with half the samples two of 4 do.)
DOUBTS = 2.0
# Halves of fewer samples see nothing.
LEAST_HALF = 16
# Each look at B's error has so large a share in its running mean.
LOOK = 0.2
# B is never shorter than so small a share of the estimate, which would be lost in rounding.
LEAST_LENGTH = 1e-3


class CalibratedRule(Rule):
    """Base of the calibrated rules: noise, its number of samples, and the estimate."""

    noise = "shared"

    def needed(self, fan_in: int, columns: int) -> float:
        """The number of noise samples that a layer needs per step.

        Args:
            fan_in: How many numbers a sample has: the weights that an output sums over.
            columns: The outputs that a sample has.

        Returns:
            The number, not rounded.
        """
        raise NotImplementedError

    def samples(self, fan_in: int, columns: int) -> int:
        """The number of noise samples that a layer draws per step.

        Args:
            fan_in: See `needed`.
            columns: See `needed`.

        Returns:
            A whole number >= 1, of samples of `MAX_NUMBERS` numbers at most.
        """
        needed = math.ceil(self.needed(fan_in, columns))
        return min(max(needed, 1), max(MAX_NUMBERS // fan_in, 1))

    def _estimate(self, state: LayerState, kernel: tf.Tensor, factor: float = 1.0) -> tf.Tensor:
        """H(xi, op(xi; kernel)) / k: unbiased for the kernel; times a factor."""
        shape = kernel.shape.as_list()
        fan_in, columns = field_of(state)
        fields = state.connection.on_fields(shape)
        k = self.samples(fan_in, columns)
        xi = unit_noise(state, k, fan_in, kernel.dtype)
        return fields.hebbian(xi, factor / k * fields.op(xi, kernel), shape)


def seen_deviation(
    fan_in: int, shared: float | tf.Tensor, half: float | tf.Tensor
) -> float | tf.Tensor:
    """Standard deviation of the error that two halves of the noise see: their inner product.

    Args:
        fan_in: The weights that an output sums over.
        shared: |W^T W|^2 / |W|^4 of the columns of W: 1 / columns for independent ones, 1 for
            columns of one direction.
        half: The samples of each half.

    Returns:
        The deviation relative to |W|^2.
    """
    return (1 + fan_in * shared) ** 0.5 / half


def field_of(state: LayerState) -> tuple[int, int]:
    """The weights that an output of the layer sums over, and the outputs of one receptive field."""
    axes = state.connection.axes(state.kernel.shape.as_list())
    return axes.fan_in, axes.columns


# Samples are overlapping windows on one sequence of signs, as the receptive fields of an image are,
# so that fewer signs have to be drawn. The estimate keeps its mean and the mean square of each of
# its errors, because two products x_a x_b of different samples are uncorrelated. What this leaves
# out is the correlation of errors at weights that are evenly spaced. It adds a share of at most
# shares / (2 fan_in), and `calibrated_activation` stays stable up to twice the error that it
# expects.
def unit_noise(
    state: LayerState,
    samples: int | tf.Tensor,
    fan_in: int,
    dtype: tf.DType,
    index: tf.Tensor | None = None,
) -> tf.Tensor:
    """Unit noise, alike on all replicas.

    Args:
        state: The layer.
        samples: Their number, an integer or an int32 scalar.
        fan_in: The size of a sample.
        dtype: Its floating dtype.
        index: Which of several draws of one step, an int32 scalar; `None` where there is one.

    Returns:
        Signs, 1 and -1, of shape `[samples, fan_in]`.
    """
    most = min(MAX_SHARES, math.isqrt(fan_in))
    shares = max(n for n in range(1, most + 1) if fan_in % n == 0)
    rows = [samples + shares - 1, fan_in // shares]
    signs = state.noise(
        tf.stack(rows) if tf.is_tensor(samples) else rows, dtype, "sign", index=index
    )
    windows = tf.range(samples)[:, None] + tf.range(shares)
    return tf.reshape(tf.gather(signs, windows), [samples, fan_in])


@register("calibrated_mirror")
class CalibratedMirror(CalibratedRule):
    """R = amp + decay on calibrated noise: B <- B - g (B - H(xi, op(xi; W)) / k). Local.

    The gain is g = max(gain, 1/t): at first the plain average of t estimates, later a running one.
    B settles at an angle to W with tan(angle)^2 = g/(2 - g) (fan_in - 1) / k: the angle is given,
    and each layer computes its number of samples k. Stable for any gain below 2, whatever the
    network.

    Where W moves fast, B would lag it by some 1/gain steps. With 32 samples or more two halves of
    the noise err independently, so <estimate_1 - B, estimate_2 - B> is unbiased for |W - B|^2. What
    of it chance does not explain makes the gain that of a Kalman filter, |W - B|^2 / (|W - B|^2 +
    |W|^2 (fan_in - 1) / k), where this is larger. Layers of few outputs tell little of their lag:
    they draw more samples, so that chance hides no more of it than the error tan(angle)^2.

    What is left of the lag is in the directions in which W has just moved, and errors use these
    most: a few degrees of it make a network without batch norm diverge. So B is the estimate, and
    where a running mean of its error exceeds the one that is asked for it is shorter, by the square
    of their ratio. The layers below then get smaller errors, their W moves less, and B catches up.
    (By the ratio itself `conv` diverges in the setting of docs/tracking.md, by its square it
    trains.) Optimizers that divide gradients by their size, such as Adam, undo it.
    `tracking_mirror` does not lag at all.

    Args:
        angle: Angle between B and W to settle at, in degrees, in (0, 90). Default 5. A layer of
            little fan-in or few outputs settles below it, as k is a whole number and has to tell
            the lag; one that needs more than 134 million numbers (`MAX_NUMBERS`) above.
        gain: Share of the estimate that one step replaces, in (0, 1]. Default 0.01.

    Raises:
        UserError: A value outside these ranges.
    """

    # B's length over that of the estimate; the running mean of its error, relative to |W|^2.
    memory = (1.0, 0.0)

    def __init__(self, angle: float = 5.0, gain: float = 0.01):
        self.angle = checks.number("angle", angle, above=0, below=90, unit="degrees")
        self.gain = checks.number("gain", gain, above=0, at_most=1)

    @property
    def _allowed(self) -> float:
        """tan(angle)^2: the error of B that is asked for, relative to |W|^2."""
        return math.tan(math.radians(self.angle)) ** 2

    def needed(self, fan_in: int, columns: int) -> float:
        """See `CalibratedRule.needed`."""
        settled = self.gain / (2.0 - self.gain) * (fan_in - 1) / self._allowed
        half = DOUBTS * seen_deviation(fan_in, 1 / columns, 1) / self._allowed
        return max(settled, 2 * half)

    def update(self, state: LayerState) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Rule.update`."""
        length, mean = tf.unstack(state.memory)
        b = state.feedback_kernel / tf.cast(length, state.feedback_kernel.dtype)
        t = tf.cast(state.step + 1, b.dtype)
        gain = tf.maximum(tf.cast(self.gain, b.dtype), 1.0 / t)
        fan_in, columns = field_of(state)
        k = self.samples(fan_in, columns)
        if k < 2 * LEAST_HALF:
            return b + gain * (self._estimate(state, state.kernel) - b), state.memory
        first, second = self._halves(state, k)
        w_square = tf.maximum(tf.reduce_sum(first * second), 0.0)
        lag = tf.math.divide_no_nan(tf.reduce_sum((first - b) * (second - b)), w_square)
        doubt = seen_deviation(fan_in, 1 / columns, k // 2)
        noise = (fan_in - 1) / k
        sure = tf.maximum(lag - DOUBTS * doubt, 0.0)
        used = tf.maximum(gain, tf.math.divide_no_nan(sure, sure + noise))
        estimate = (k // 2 / k) * first + ((k + 1) // 2 / k) * second
        b += used * (estimate - b)
        # The first B is of other kernels: what it lacks says nothing of how W moves.
        seen = tf.where(state.step > 0, tf.cast(lag, mean.dtype), 0.0)
        mean += LOOK * (seen - mean)
        length = tf.clip_by_value((self._allowed / mean) ** 2, LEAST_LENGTH, 1.0)
        length = tf.where(mean > self._allowed, length, 1.0)
        return tf.cast(length, b.dtype) * b, tf.stack([length, mean])

    def _halves(self, state: LayerState, k: int) -> list[tf.Tensor]:
        """Estimates of W by each half of the noise."""
        w, shape, fan_in = state.kernel, state.kernel.shape.as_list(), field_of(state)[0]
        fields = state.connection.on_fields(shape)
        xi = unit_noise(state, k, fan_in, w.dtype)
        responses = fields.op(xi, w)
        return [
            fields.hebbian(xi[part], responses[part] / (part.stop - part.start), shape)
            for part in (slice(0, k // 2), slice(k // 2, k))
        ]

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"angle": self.angle, "gain": self.gain}


@register("calibrated_activation")
class CalibratedActivation(CalibratedRule):
    """R = amp + sparse on calibrated noise: B <- B - g H(xi, op(xi; B) - op(xi; W)) / k.

    Non-local as activation alignment is (B also runs forward), but it reads no weight. The noise
    of its update vanishes with the error, so B becomes W exactly. From the gain each layer
    computes its number of samples, g = k / (k + fan_in - 1), and uses the gain that belongs to
    its k, a whole number: the one at which the mean square error falls fastest.

    Args:
        gain: Share of the error that one step removes, in (0, 1). Default 0.05: B follows W within
            some 20 steps. Layers of little fan-in remove more, as k is a whole number.

    Raises:
        UserError: A gain outside the range.
    """

    def __init__(self, gain: float = 0.05):
        self.gain = checks.number("gain", gain, above=0, below=1)

    def needed(self, fan_in: int, columns: int) -> float:
        """See `CalibratedRule.needed`; it does not depend on `columns`."""
        return self.gain / (1.0 - self.gain) * (fan_in - 1)

    def gain_of(self, fan_in: int, columns: int) -> float:
        """The gain of a layer.

        Args:
            fan_in: The weights that an output sums over.
            columns: The outputs of one receptive field.

        Returns:
            k / (k + fan_in - 1).
        """
        k = self.samples(fan_in, columns)
        return k / (k + fan_in - 1)

    def update(self, state: LayerState) -> tf.Tensor:
        """See `Rule.update`."""
        b = state.feedback_kernel
        # op is linear in its kernel: op(xi; B) - op(xi; W) is one product.
        gain = self.gain_of(*field_of(state))
        return b - self._estimate(state, b - state.kernel, gain)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"gain": self.gain}
