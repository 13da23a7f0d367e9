"""mixed_float16 and activity as large as pixels: R's sums are float32's, and B moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES, WITHOUT_B
from tfcredit import layers, rules

WITH_R = [
    rule
    for rule in RULES
    if rule not in WITHOUT_B and type(rules.get(RULES[rule])).loss is not rules.Rule.loss
]
PIXELS = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float16")
PIXELS = PIXELS.astype("float32")


def taught(rule, policy):
    """R and its gradient in B, at the same pixels and forward weights, which float16 holds.

    R is a small difference of large terms: that of the mirror here is 151, of terms that sum up to
    39,252 without their signs. Float16's W, off by 2^-11 at most, changes it by 2.3 %.
    """
    keras.utils.set_random_seed(1)
    made = layers.Conv2D(4, 3, rule=rule, seed=1, dtype=policy)
    made.build((None, 32, 32, 3))
    made.kernel.assign(tf.cast(tf.cast(made.kernel, "float16"), "float32"))
    with tf.GradientTape() as tape:
        made(PIXELS, training=True)
        (loss,) = made.losses[:1]
    return loss, tape.gradient(loss, made.feedback_kernel.value, unconnected_gradients="zero")


@pytest.mark.parametrize("rule", WITH_R)
def test_r_under_float16_is_float32s(rule):
    (loss, gradient), (found, other) = (
        taught(RULES[rule], policy) for policy in ("float32", "mixed_float16")
    )
    np.testing.assert_allclose(found, loss, rtol=0.002, atol=1e-6)
    np.testing.assert_allclose(other, gradient, rtol=0.02, atol=0.02 * np.abs(gradient).max())


def test_products_in_float16_are_summed_in_float32():
    rule = "weight_mirror(inputs={'precision': 'float16'})"
    _, gradient = taught(rule, "mixed_float16")
    _, expected = taught("weight_mirror", "float32")
    np.testing.assert_allclose(gradient, expected, rtol=0.02)


def test_a_feedback_kernel_beyond_float16_makes_a_step_to_skip():
    made = layers.Dense(2, rule="info_alignment", seed=1, dtype="mixed_float16")
    made.build((None, 3))
    made.feedback_kernel.assign(tf.fill([3, 2], 1e5))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(made(tf.ones((4, 3)), training=True), "float32"))
    assert not np.isfinite(tape.gradient(total, made.feedback_kernel.value)).any()
