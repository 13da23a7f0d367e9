"""Weights of classes and samples in `fit`: the task's loss has them, the rule's has not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import layers

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 5)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
CLASSES = {0: 0.0, 1: 2.0, 2: 5.0}
SAMPLES = np.array([CLASSES[label] for label in Y], "float32")
WEIGHTS = {
    "none": {},
    "classes": {"class_weight": CLASSES},
    "samples": {"sample_weight": SAMPLES},
    "zeros": {"class_weight": dict.fromkeys(range(3), 0.0)},
}


def network(rule):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="relu", rule=rule),
            layers.Dense(3, rule=rule),
        ]
    )


def changes(rule, **weights):
    """Of W and B of both layers by one step of `fit` at rate 1, and its loss."""
    model = network(rule)
    before = [(v.kernel.numpy(), v.feedback_kernel.numpy()) for v in model.layers]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    found = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, **weights)
    after = [(v.kernel.numpy(), v.feedback_kernel.numpy()) for v in model.layers]
    pairs = zip(after, before, strict=True)
    return [(w - w0, b - b0) for (w, b), (w0, b0) in pairs], found.history["loss"][0]


def expected(rule, weights):
    """The same by hand."""
    model = network(rule)
    kernels = [(layer.kernel.value, layer.feedback_kernel.value) for layer in model.layers]
    with tf.GradientTape() as tape:
        outputs = model(X, training=True)
        task = keras.losses.sparse_categorical_crossentropy(Y, outputs, from_logits=True)
        loss = tf.reduce_mean(task * weights) + tf.add_n(model.losses)
    return tape.gradient(loss, kernels), loss


@pytest.mark.parametrize("rule", ["info_alignment", "kolen_pollack"])
@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.every(2)
def test_the_task_is_weighted_and_the_rule_is_not(rule, name):
    weights = {"none": np.ones(8), "zeros": np.zeros(8)}.get(name, SAMPLES).astype("float32")
    found, loss = changes(rule, **WEIGHTS[name])
    gradients, wanted = expected(rule, weights)
    assert loss == pytest.approx(float(wanted), rel=1e-5)
    for ours, by_hand in zip(found, gradients, strict=True):
        for change, gradient in zip(ours, by_hand, strict=True):
            np.testing.assert_allclose(change, -gradient, rtol=1e-4, atol=1e-6)
    if rule == "info_alignment":  # B learns the same whatever the weights are; W does not
        plain, _ = changes(rule)
        for (w, b), (w0, b0) in zip(found, plain, strict=True):
            np.testing.assert_allclose(b, b0, rtol=1e-5, atol=1e-7)
            assert np.abs(b).max() > 1e-5 and (name == "none" or np.abs(w - w0).max() > 1e-3)
