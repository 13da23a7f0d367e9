"""L-DRL: what its gradient is on average, and that B becomes W."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rules.test_calibrated import LAYERS
from tfcredit import rules
from tfcredit.errors import UserError
from tfcredit.rules.geometry import geometry


@pytest.mark.parametrize("name", ["dense", "same", "strided", "transposed", "heads"])
def test_the_mean_gradient_is_the_difference(name):
    """coefficient * s^2 * counts * (B - W), by many draws."""
    connection, shape, kernel_shape = LAYERS[name]
    rule, random = rules.get("l_drl(coefficient=0.5, stddev=2.0)"), np.random.default_rng(0)
    w, b = (tf.constant(random.normal(size=kernel_shape)) for _ in range(2))
    x = tf.zeros((64, *shape), tf.float64)
    y, linear = tf.zeros_like(connection.op(x, w)), keras.activations.linear

    @tf.function
    def gradient(step):
        state = rules.LayerState(connection, x, y, w, b, None, linear, 1, step)
        with tf.GradientTape() as tape:
            tape.watch(b)
            value = rule.loss(state)
        return tape.gradient(value, b)

    mean = np.mean([gradient(tf.constant(step)) for step in range(300)], 0)
    counts = geometry(connection, shape, kernel_shape).counts
    expected = 0.5 * 2.0**2 * counts * (b - w).numpy()
    error = np.linalg.norm(mean - expected) / np.linalg.norm(expected)
    assert error < 0.1


@pytest.mark.parametrize("arguments", ["coefficient=0", "stddev=-1.0", "stddev='a'"])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(UserError, match="must be a positive finite number"):
        rules.get(f"l_drl({arguments})")


def test_autoencoders_r_is_the_error_of_reconstruction():
    connection, shape, kernel_shape = LAYERS["strided"]
    random = np.random.default_rng(0)
    w, b = (tf.constant(random.normal(size=kernel_shape)) for _ in range(2))
    x = tf.constant(random.normal(size=(3, *shape)))
    y = connection.op(x, w)
    state = rules.LayerState(connection, x, y, w, b, None, keras.activations.linear, 1, None)
    value = rules.get("autoencoder_alignment(amp=0.5, null=0.5)").loss(state)
    error = x - connection.op_transpose(y, b, tf.shape(x))
    constant = np.sum(x.numpy() ** 2)
    np.testing.assert_allclose(value, 0.5 / 6 * (np.sum(error.numpy() ** 2) - constant))
