"""Frozen layers stay as they are, as Keras' batch norm does, and errors travel on through them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES, WITHOUT_B, layer
from tfcredit import analysis

WITH_B = [rule for rule in RULES if rule not in WITHOUT_B]


ALIGNING = ["tracking_activation", "tracking_mirror"]


@pytest.mark.parametrize("name", ["dense", "conv"])
@pytest.mark.parametrize("rule", WITH_B)
def test_a_frozen_layer_rests(name, rule):
    made, x = layer(name, rule)
    if rule in ALIGNING:
        made(x, training=True)
    made.trainable = False
    before = made.get_weights()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = made(x, training=True)
        losses = made.losses
    np.testing.assert_array_equal(y, made(x))
    assert not losses and tape.gradient(y, x) is not None
    for now, then in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("rule", ALIGNING)
def test_a_layer_that_was_never_trained_aligns_once_though_it_is_frozen(rule, jit_compile):
    """Or errors that travel on would be of a B that is drawn at random."""
    made, x = layer("dense", rule)
    made.trainable = False
    model = keras.Sequential([keras.Input(x.shape[1:]), made, keras.layers.Dense(4)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    kernel, drawn = made.kernel.numpy(), made.feedback_kernel.numpy()
    model.predict(x, verbose=0)
    np.testing.assert_array_equal(made.feedback_kernel, drawn)
    model.fit(x, np.ones((3, 4), "float32"), verbose=0)
    np.testing.assert_array_equal(made.kernel, kernel)
    aligned = made.feedback_kernel.numpy()
    assert analysis.angle(kernel, aligned) < 5
    model.fit(x, np.ones((3, 4), "float32"), epochs=60, verbose=0)
    np.testing.assert_array_equal(made.feedback_kernel, aligned)


@pytest.mark.parametrize("rule", ["calibrated_mirror", "info_alignment", "phase_free_mirror"])
def test_it_learns_again_once_it_is_thawed(rule):
    made, x = layer("dense", rule)
    made.trainable = False
    model = keras.Sequential([keras.Input(x.shape[1:]), made, keras.layers.Dense(4)])
    for trainable in (False, True):
        made.trainable = trainable
        model.compile(keras.optimizers.SGD(0.1), "mse")
        before = made.feedback_kernel.numpy()
        model.fit(x, np.ones((3, 4), "float32"), verbose=0)
        assert (made.feedback_kernel.numpy() != before).any() == trainable
