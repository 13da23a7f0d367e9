"""Positions at which a kernel meets its input: they calibrate estimates of W from noise."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.connections import Connection
from tfcredit.errors import UserError


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
    """Count the positions at which each tap of a kernel meets its input.

    Args:
        connection: The layer's products.
        input_shape: Static shape of one sample.
        kernel_shape: Static shape of the kernel.

    Returns:
        The calibration constants, in NumPy.

    Raises:
        UserError: A size of the input is unknown.
    """
    if None in input_shape[:-1] or None in input_shape[1:]:
        raise UserError(
            f"the input has the shape {tuple(input_shape)}, but this rule counts the positions "
            "that each kernel tap meets and needs them known: give the model a full input shape."
        )
    return _measured(connection, tuple(input_shape), tuple(kernel_shape))


@functools.lru_cache(maxsize=1024)  # eager training calls ask each time
def _measured(connection, input_shape, kernel_shape) -> Geometry:
    # Products of ones count: H(1, 1) the positions of each tap, op(1; 1) the weights met at each
    # position, and H(1, op(1; 1)) those met together with each tap.
    with tf.init_scope(), tf.device("CPU:0"):
        x, w = tf.ones([1, *input_shape]), tf.ones(kernel_shape)
        met_together = connection.op(x, w)
        products = [tf.ones_like(met_together), met_together]
        products = [connection.hebbian(x, y, kernel_shape).numpy() for y in products]
    # All weights of a tap have the same counts.
    taps = len(connection.axes(kernel_shape).taps)
    of_taps = (slice(None),) * taps + (slice(1),) * (len(kernel_shape) - taps)
    counts, spread = (np.rint(each[of_taps].astype(float)) for each in products)
    met = counts > 0
    counts = np.where(met, counts, 1.0)
    # An estimate sums, over its positions, products with all weights that are met there. Gaussian
    # noise: the fourth moment adds one more term to the fan-in.
    variance = float((spread / counts**2 + 1.0 / counts)[met].mean())
    return Geometry(counts, met.astype(float), variance)
