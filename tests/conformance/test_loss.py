"""R: in a training call only, unscaled, and felt by the feedback kernel alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import (
    LEARN,
    PAIRS,
    RULES,
    assert_close,
    compile_network,
    feedback_layers,
    layer,
    network,
    train,
)
from tfcredit import layers, rules


@pytest.mark.every(4)
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("name, rule", PAIRS)
def test_r_is_the_first_loss_of_a_training_call(name, rule, wrap):
    made, x = layer(name, rule, kernel_regularizer=keras.regularizers.L2(0.5))
    variables = [made.kernel.value] + ([] if made.bias is None else [made.bias.value])

    @wrap
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            made(x, training=True)
            losses = made.losses
        return losses, tape.gradient(losses[0], [x, *variables, made.feedback_kernel.value])

    made(x)
    # One of `frozen` has none, as its kernel is not trained.
    regularised = sum(v.regularizer is not None for v in made.trainable_variables)
    assert len(made.losses) == regularised, "the regulariser alone"
    if type(made.rule).loss is rules.Rule.loss:
        made(x, training=True)
        decay_of_factors = made.rule.feedback_rank is not None
        assert len(made.losses) == regularised + decay_of_factors
        return
    assert regularised == 1
    state = made.layer_state(x)
    losses, (*others, db) = run(x)
    assert others == [None] * (1 + len(variables))
    with tf.GradientTape() as tape:
        tape.watch(state.feedback_kernel)
        expected = made.rule.loss(state)
    np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
    expected = tape.gradient(expected, state.feedback_kernel)
    np.testing.assert_allclose(db, expected, rtol=1e-5, atol=1e-6)
    l2 = 0.5 * np.sum(made.kernel.numpy() ** 2)
    np.testing.assert_allclose(losses[1], l2, rtol=1e-5)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "rule", [rule for rule in LEARN if not rules.get(RULES[rule]).follows_forward]
)
def test_loss_weights_and_regularisers_do_not_scale_r(rule):
    """With the task's loss weighted by 0, B moves by R's gradient all the same."""
    results = []
    for weight, l2 in [(0.0, None), (0.0, 0.1), (2.0, None)]:
        # Without the error, which is the task's.
        model = network(rule if rule != "alignment" else "0.02*amp + 0.1*decay + 0.05*self")
        for each in feedback_layers(model):
            each.kernel_regularizer = l2 and keras.regularizers.L2(l2)
            each.kernel.regularizer = each.kernel_regularizer
        compile_network(model, keras.optimizers.SGD(0.5), loss_weights=[weight], run_eagerly=True)
        first = feedback_layers(model)
        before = [each.feedback_kernel.numpy() for each in first]
        train(model, 1)
        results.append(
            [each.feedback_kernel.numpy() - old for each, old in zip(first, before, strict=True)]
        )
    assert all(np.abs(change).max() > 1e-5 for change in results[0])
    for other in results[1:]:
        assert_close(other, results[0], 1e-6)


def test_update_forward_reaches_the_forward_kernel():
    """The one option that lets R act on W: Kolen-Pollack's decay of both kernels."""
    made = layers.Dense(4, rule="kolen_pollack(decay=0.5, inputs={'update_forward': True})")
    with tf.GradientTape() as tape:
        made(tf.ones((2, 3)), training=True)
        total = sum(made.losses)
    decayed = tape.gradient(total, made.kernel.value)
    np.testing.assert_allclose(decayed, 0.5 * made.kernel.numpy(), rtol=1e-5)
