"""Random numbers that are the same in eager mode, in graphs and under XLA: functions of a seed."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.errors import UserError


def fixed(
    seed: int, shape: Sequence[int], dtype: tf.DType, distribution: str = "normal"
) -> tf.Tensor:
    """Unit-variance, zero-mean noise that is the same at every step and on every replica.

    Args:
        seed: Its seed; `tfcredit.seeding.derive` makes one for each purpose of the layer's.
        shape: Its shape.
        dtype: Its floating dtype; it is drawn in float32.
        distribution: `"normal"`, `"uniform"` or `"sign"` (1 and -1).

    Returns:
        Independent numbers of mean 0 and variance 1.

    Raises:
        UserError: The distribution is unknown.
    """
    return drawn(tf.constant([seed, 0], tf.int32), shape, dtype, distribution)


def drawn(
    seed: tf.Tensor, shape: Sequence[int] | tf.Tensor, dtype: tf.DType, distribution: str
) -> tf.Tensor:
    """Noise of zero mean and unit variance that is a function of `seed` alone.

    Args:
        seed: int32 of shape `(2,)`, such as a layer's seed and step.
        shape: Its shape.
        dtype: Its floating dtype; it is drawn in float32.
        distribution: `"normal"`, `"uniform"` or `"sign"` (1 and -1).

    Returns:
        Independent numbers.

    Raises:
        UserError: The distribution is unknown.
    """
    draws = {"normal": _normal, "uniform": _uniform, "sign": _signs}
    if distribution not in draws:
        known = ", ".join(draws)
        raise UserError(f"distribution={distribution!r} is unknown: give one of {known}.")
    draw = draws[distribution]
    count = tf.reduce_prod(shape) if tf.is_tensor(shape) else math.prod(shape)
    return tf.cast(tf.reshape(draw(count, seed), shape), dtype)


_SIGNS = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, -1.0, 1.0).astype(np.float32)
"""The eight signs of each byte."""


def whole_number(seed: tf.Tensor, bound: int | tf.Tensor) -> tf.Tensor:
    """A random whole number that is a function of `seed` alone.

    Args:
        seed: int32 of shape `(2,)`.
        bound: What it is below, an integer >= 1 or an int32 scalar.

    Returns:
        An int32 scalar; each number from 0 to `bound` - 1 is as likely but for a share `bound` /
        2^32.
    """
    return tf.math.floormod(_bits([], seed), bound)


# Of TensorFlow's random numbers only Philox' integers are the same with and without XLA
# (TensorFlow 2.21: its uniform and normal numbers of one seed differ), so these are made of them.
# The seed is Philox' key as it is, two whole numbers of 32 bits: that keys which differ in one bit
# give unrelated numbers is what Philox is for, whereas `tf.random.stateless_uniform` first draws
# the key from the seed, with 12 ops that each layer would have to trace.
def _bits(shape: Sequence[int | tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
    """Whole numbers of 32 random bits, int32."""
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.convert_to_tensor(shape, tf.int32),
        key=tf.bitcast(tf.reshape(seed, [1, 2]), tf.uint64),
        counter=tf.constant([0, 0], tf.uint64),
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.int32,
    )


def _fractions(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return (tf.cast(_bits([count], seed), tf.float32) + (2.0**31 + 0.5)) * 2.0**-32


def _uniform(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return 3.0**0.5 * (2.0 * _fractions(count, seed) - 1.0)


def _signs(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """32 of each whole number, looked up byte by byte: bit by bit takes 1.7 times as long."""
    octets = tf.bitcast(_bits([(count + 31) // 32], seed), tf.uint8)
    signs = tf.gather(tf.constant(_SIGNS), tf.cast(octets, tf.int32))
    return tf.reshape(signs, [-1])[:count]


def _normal(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Box and Muller's: a radius and an angle make two normal numbers."""
    pairs = (count + 1) // 2
    fractions = _fractions(2 * pairs, seed)
    # One of 2^26 fractions is rounded to 0, whose logarithm would be infinite.
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(fractions[:pairs], 2.0**-33)))
    angle = 2.0 * math.pi * fractions[pairs:]
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], 0)[:count]
