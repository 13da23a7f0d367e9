"""Bias gradients are right, and the same under all rules, in every precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import layers

LAYERS = {
    "dense": (lambda **kw: layers.Dense(2, **kw), (4096, 3)),
    "dense rank 3": (lambda **kw: layers.Dense(2, **kw), (4, 1024, 3)),
    "conv": (lambda **kw: layers.Conv2D(2, 3, padding="same", **kw), (4, 32, 32, 3)),
    "conv 1d": (lambda **kw: layers.Conv1D(2, 3, padding="same", **kw), (4, 1024, 3)),
    "depthwise": (lambda **kw: layers.DepthwiseConv2D(3, padding="same", **kw), (4, 32, 32, 3)),
    "transposed": (lambda **kw: layers.Conv2DTranspose(2, 2, 2, **kw), (4, 16, 16, 3)),
    "separable": (lambda **kw: layers.SeparableConv2D(2, 3, padding="same", **kw), (4, 32, 32, 3)),
    "einsum": (lambda **kw: layers.EinsumDense("abc,cd->abd", (1024, 2), bias_axes="d", **kw),
               (4, 1024, 3)),
    "einsum, other axis": (
        lambda **kw: layers.EinsumDense("abc,cd->adb", (2, 1024), bias_axes="d", **kw),
        (4, 1024, 3),
    ),
}  # fmt: skip


@pytest.mark.every(4)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("rule", ["backprop", "feedback_alignment"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_sum_of_ones(name, rule, policy):
    make, shape = LAYERS[name]
    keras.utils.set_random_seed(0)
    layer = make(rule=rule, seed=0, dtype=policy)
    x = tf.zeros(shape)
    layer(x)
    (bias,) = (each for each in layer.trainable_variables if each.name == "bias")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(layer(x, training=True), "float32"))
    gradient = tf.cast(tape.gradient(total, bias.value), "float32")
    np.testing.assert_array_equal(gradient, np.full(bias.shape, 4096.0))


@pytest.mark.parametrize("rule", ["backprop", "feedback_alignment"])
def test_beyond_float16(rule):
    layer = layers.Dense(1, rule=rule, seed=0, dtype="mixed_float16")
    layer.build((None, 1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(layer(tf.zeros((100_000, 1)), training=True), "float32"))
    np.testing.assert_array_equal(tape.gradient(total, layer.bias.value), [100_000.0])
