"""Frozen layers stay as they are, as Keras' batch norm does, and errors travel on through them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES, WITHOUT_B, layer

WITH_B = [rule for rule in RULES if rule not in WITHOUT_B]


@pytest.mark.parametrize("name", ["dense", "conv"])
@pytest.mark.parametrize("rule", WITH_B)
def test_a_frozen_layer_rests(name, rule):
    made, x = layer(name, rule)
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
