"""Mixed precision: half-precision products, float32 kernels, the update of float32."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import (
    LEARN,
    PAIRS,
    QUICK_FIRST,
    compile_network,
    feedback_layers,
    layer,
    network,
    train,
)

POLICIES = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@pytest.mark.every(8)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name, rule", PAIRS)
def test_dtypes_of_a_layer(name, rule, policy):
    made, x = layer(name, rule, dtype=policy)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = made(x, training=True)
        total = tf.reduce_sum(tf.cast(y, "float32")) + sum(made.losses)
    assert x.dtype == y.dtype == POLICIES[policy]
    dx = tape.gradient(total, x)
    assert dx.dtype == POLICIES[policy] if made.rule.sends_error else dx is None
    assert all(loss.dtype == "float32" for loss in made.losses)
    assert all(weight.dtype in ("float32", "int32") for weight in made.weights)


@functools.cache  # float32 is what each policy is compared with
def trained(rule, dtype=None):
    """A network after two steps, its weights before them, and the loss."""
    model = compile_network(network(rule, dtype), keras.optimizers.SGD(0.05, 0.9))
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    if dtype == "mixed_float16" and not scaled:  # compile looks at the global policy
        model = compile_network(
            network(rule, dtype),
            keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05, 0.9), 1024.0),
        )
    before = [each.numpy() for each in model.weights]
    return model, before, train(model, 2)


@pytest.mark.every(6)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rule", QUICK_FIRST)
def test_network_trains_as_in_float32(rule, policy):
    full, before, loss = trained(rule)
    half, _, half_loss = trained(rule, policy)
    np.testing.assert_allclose(half_loss, loss, rtol=0.05)
    for one, other, old in zip(full.weights, half.weights, before, strict=True):
        change, expected = other.numpy() - old, one.numpy() - old
        assert np.isfinite(change).all()
        if np.abs(expected).max() > 1e-7:
            error = np.linalg.norm(change - expected) / np.linalg.norm(expected)
            assert error < 0.15, other.path
    if rule in LEARN:
        learned = [v for each in feedback_layers(half) for v in each.trainable_weights]
        assert all(variable.dtype == "float32" for variable in learned)


def test_loss_scaling_is_automatic_under_the_global_policy():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = compile_network(network("info_alignment"), jit_compile=False)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        before = [each.feedback_kernel.numpy() for each in feedback_layers(model)]
        assert np.isfinite(train(model, 2))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for each, old in zip(feedback_layers(model), before, strict=True):
        moved = np.abs(each.feedback_kernel.numpy() - old).max()
        assert 0 < moved < 0.1, "R's gradient is unscaled before the update"
