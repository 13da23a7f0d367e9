"""Calibrated rules: B estimates W from noise of the layer's own, with nothing to tune.

For unit noise xi of k samples, H(xi, op(xi; W)) / count is an unbiased estimate of W, where
`count` is the number of terms that each kernel tap sums: samples times the positions at which
the tap meets the noise, a constant of the layer. Noise on a small patch of the input will do where
a kernel meets so many positions that less than a sample is needed. B is a running estimate, kept
like batch norm's moving statistics: not trainable, renewed in the training call, alike on every
replica.
"""

import bisect
import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.connections import Connection
from tfcredit.errors import UserError
from tfcredit.rules.base import Rule, Synapse
from tfcredit.rules.registry import register

# A bound on the memory of one step's noise; a layer that would need more is less exact.
MAX_SAMPLES = 4096
# What rounding down may take from the samples that are needed.
SLACK = 0.06


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Constants of a layer that calibrate its estimate.

    Attributes:
        counts: For each tap, the positions at which it meets the input in one sample, shaped to
            divide a kernel. Taps that never meet it count 1: their estimate is 0 anyway.
        met: 1 for taps that meet the input, else 0, shaped alike.
        variance: Mean square error of a one-sample estimate, relative to the mean square weight,
            averaged over taps: (fan_in + 1) / positions where every tap meets every position.
        growth: The factor by which one sample amplifies a mean square error of B in the worst
            direction over taps; equals `variance` where every tap meets every position. Left out:
            products of errors at taps that mirror each other, of either sign, at most a share
            1 / channels more; an update with the gain k / (k + growth) shrinks the error up to
            twice `growth`, so that it can't diverge.
    """

    counts: np.ndarray
    met: np.ndarray
    variance: float
    growth: float


def geometry(
    connection: Connection, input_shape: Sequence[int | None], kernel_shape: Sequence[int]
) -> Geometry:
    """How a layer's taps meet its input.

    Args:
        connection: The layer's products.
        input_shape: Static shape of one sample.
        kernel_shape: Static shape of the kernel, whose first axes are those of the taps.

    Returns:
        The calibration constants, in NumPy.

    Raises:
        UserError: A size of the input is unknown.
    """
    overlaps = connection.overlaps(input_shape, kernel_shape)
    channels = connection.channels(kernel_shape)
    counts = functools.reduce(np.multiply.outer, [v.sum(0) for v in overlaps])
    met = counts > 0
    safe = np.where(met, counts, 1.0)
    # mixing[a, b]: in how many positions taps a and b meet the input together. The estimate of
    # tap a sums, over its positions, products with every other tap that is met there.
    mixing = functools.reduce(np.kron, [v.T @ v for v in overlaps])
    flat = safe.ravel()
    spread = mixing / flat[:, None] ** 2
    # Gaussian noise: the fourth moment adds one more term to the fan-in.
    own = 1.0 / flat * met.ravel()
    variance = float((channels * spread.sum(1) + own)[met.ravel()].mean())
    growth = float(channels * np.abs(np.linalg.eigvals(spread)).max() + own.max())
    shape = counts.shape + (1,) * (len(kernel_shape) - counts.ndim)
    return Geometry(safe.reshape(shape), met.reshape(shape).astype(float), variance, growth)


@dataclasses.dataclass(frozen=True)
class Noise:
    """The noise that a layer draws at each step.

    Attributes:
        samples: How many samples.
        shape: Static shape of one: the layer's input, or a patch of it with all channels.
        geometry: How the layer's taps meet it.
    """

    samples: int
    shape: Sequence[int]
    geometry: Geometry


class CalibratedRule(Rule):
    """Base of the calibrated rules: noise, count, and the update B <- B - gain * gradient."""

    counts_steps = True

    def samples(self, geometry: Geometry) -> float:
        """How many noise samples a layer of this geometry needs per step, not rounded."""
        raise NotImplementedError

    def noise(
        self,
        connection: Connection,
        input_shape: Sequence[int | None],
        kernel_shape: Sequence[int],
    ) -> Noise:
        """The least noise that does for a layer: few samples, then the smallest patch for these.

        Args:
            connection: The layer's products.
            input_shape: Static shape of one sample of its input.
            kernel_shape: Static shape of its kernel.

        Returns:
            The noise, of at most `MAX_SAMPLES` samples.

        Raises:
            UserError: A size of the input is unknown.
        """
        whole = geometry(connection, input_shape, kernel_shape)
        needed = self.samples(whole)
        down = math.floor(needed) >= (1 - SLACK) * needed
        k = min(max(math.floor(needed) if down else math.ceil(needed), 1), MAX_SAMPLES)
        largest = max(input_shape)

        def patch(size):
            shape = connection.crop(input_shape, kernel_shape, size / largest)
            return Noise(k, shape, geometry(connection, shape, kernel_shape))

        def is_enough(size):
            return self.samples(patch(size).geometry) <= max(k, needed)

        sizes = range(1, largest)
        first = bisect.bisect_left(sizes, True, key=is_enough)
        return patch(sizes[first]) if first < len(sizes) else Noise(k, input_shape, whole)

    def _drawn(self, synapse: Synapse) -> tuple[Noise, tf.Tensor]:
        shape, dtype = synapse.kernel.shape.as_list(), synapse.kernel.dtype
        noise = self.noise(synapse.connection, synapse.x.shape[1:], shape)
        return noise, synapse.noise([noise.samples, *noise.shape], dtype, alike=True)

    def _estimate(self, synapse: Synapse, noise: Noise, xi, y, factor: float = 1.0) -> tf.Tensor:
        """H(xi, y) / count: unbiased for the kernel K behind y = op(xi; K); times a factor."""
        product = synapse.connection.hebbian(xi, y, synapse.kernel.shape)
        per_term = factor / (noise.samples * noise.geometry.counts)
        return product * tf.constant(per_term, product.dtype)


@register("calibrated_mirror")
class CalibratedMirror(CalibratedRule):
    """R = amp + decay on calibrated noise: B <- B - g (B - H(xi, op(xi; W)) / count). Local.

    The gain is g = max(gain, 1/t): at first the plain average of t estimates, later a running one.
    B settles at an angle to W with tan(angle)^2 = g/(2 - g) * variance / k, where `variance` is
    (fan_in + 1) / positions (`Geometry`): the angle is given, each layer computes its number of
    samples k, and how large a patch of its input they cover (`noise`). Stable for any gain below 2,
    whatever the network. B also lags W by some 1/gain steps, which adds to the angle where W moves
    fast.

    Args:
        angle: Angle between B and W to settle at, in degrees, in (0, 90). Default 5. A layer of
            few positions settles below it, as k is a whole number; one that needs more than 4096
            samples above.
        gain: Share of the estimate that one step replaces, in (0, 1]. Default 0.01.

    Raises:
        UserError: A value outside these ranges.
    """

    def __init__(self, angle: float = 5.0, gain: float = 0.01):
        check_range("angle", angle, 90.0, "degrees above 0 and below 90", upper_included=False)
        check_range("gain", gain, 1.0, "above 0 and at most 1")
        self.angle, self.gain = float(angle), float(gain)

    def samples(self, geometry: Geometry) -> float:
        """See `CalibratedRule.samples`."""
        averaging = self.gain / (2.0 - self.gain)
        return averaging * geometry.variance / math.tan(math.radians(self.angle)) ** 2

    def update(self, synapse: Synapse) -> tf.Tensor:
        """See `Rule.update`."""
        noise, xi = self._drawn(synapse)
        b = synapse.feedback_kernel
        estimate = self._estimate(synapse, noise, xi, synapse.connection.op(xi, synapse.kernel))
        t = tf.cast(synapse.step + 1, b.dtype)
        return b + tf.maximum(tf.cast(self.gain, b.dtype), 1.0 / t) * (estimate - b)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"angle": self.angle, "gain": self.gain}


@register("calibrated_activation")
class CalibratedActivation(CalibratedRule):
    """R = amp + sparse on calibrated noise: B <- B - g H(xi, op(xi; B) - op(xi; W)) / count.

    Non-local as activation alignment is (B also runs forward), but it reads no weight. The noise
    of its update vanishes with the error, so B becomes W exactly. From the gain each layer
    computes its number of samples, g = k / (k + growth), with `growth` = (fan_in + 1) / positions
    (`Geometry`), and how large a patch of its input they cover (`noise`). The layer uses the gain
    that belongs to its k, the one at which the mean square error falls fastest.

    Args:
        gain: Share of the error that one step removes, in (0, 1). Default 0.05: B follows W within
            some 20 steps. Layers of few positions remove more, as k is a whole number.

    Raises:
        UserError: A gain outside the range.
    """

    def __init__(self, gain: float = 0.05):
        check_range("gain", gain, 1.0, "above 0 and below 1", upper_included=False)
        self.gain = float(gain)

    def samples(self, geometry: Geometry) -> float:
        """See `CalibratedRule.samples`."""
        return self.gain / (1.0 - self.gain) * geometry.growth

    def update(self, synapse: Synapse) -> tf.Tensor:
        """See `Rule.update`."""
        noise, xi = self._drawn(synapse)
        b = synapse.feedback_kernel
        # op is linear in its kernel: op(xi; B) - op(xi; W) is one product.
        difference = synapse.connection.op(xi, b - synapse.kernel)
        gain = noise.samples / (noise.samples + noise.geometry.growth)
        return b - self._estimate(synapse, noise, xi, difference, gain)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"gain": self.gain}


def check_range(name, value, upper, expected, upper_included=True):
    """Refuse a value outside (0, upper], or (0, upper), in the words of `expected`."""
    fits = isinstance(value, (int, float)) and 0 < value < upper
    if not fits and not (upper_included and value == upper):
        raise UserError(f"{name}={value!r} is out of range: give a number {expected}.")
