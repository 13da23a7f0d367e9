"""How a layer's kernel meets its input: what calibrates an estimate of W from noise in it."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfcredit.connections import Connection


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Constants of a layer that calibrate estimates of W from unit noise in all of its input.

    For such noise xi of k samples, H(xi, op(xi; W)) / (k `counts`) is an unbiased estimate of W.

    Attributes:
        counts: For each tap, the positions at which it meets the input in one sample, shaped to
            divide a kernel. Taps that never meet it count 1: their estimate is 0 anyway.
        met: 1 for taps that meet the input, else 0, shaped alike.
        variance: Mean square error of a one-sample estimate, relative to the mean square weight,
            averaged over taps: (fan_in + 1) / positions where every tap meets every position.
    """

    counts: np.ndarray
    met: np.ndarray
    variance: float


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
    shape = counts.shape + (1,) * (len(kernel_shape) - counts.ndim)
    return Geometry(safe.reshape(shape), met.reshape(shape).astype(float), variance)
