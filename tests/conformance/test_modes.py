"""Graph, eager and XLA give the same numbers; so do all ways to run a training step."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import (
    LAYERS,
    LEARN,
    MORE_PAIRS,
    QUICK_FIRST,
    RULES,
    assert_close,
    compile_network,
    cross_entropy,
    data,
    layer,
    network,
    train,
)
from tests.crossing import crossed


def call(made, x):
    """Output, R, gradients and the variables after a training call."""

    def run(x):
        variables = [variable.value for variable in made.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = made(x, training=True)
            total = tf.reduce_sum(tf.sin(3.0 * y)) + sum(made.losses)
        gradients = tape.gradient(total, [x, *variables], unconnected_gradients="zero")
        return [y, *made.losses, *gradients]

    return run


@pytest.mark.every(12)
@pytest.mark.parametrize("name, rule", MORE_PAIRS)
def test_layer_in_graph_and_eager(name, rule):
    results = []
    for wrap in (lambda f: f, tf.function):
        made, x = layer(name, rule)
        results.append([*wrap(call(made, x))(x), *made.get_weights()])
    assert_close(results[1], results[0], 1e-5)


@pytest.mark.every(10)
@pytest.mark.parametrize(
    "name, rule", crossed(LAYERS, RULES, quick=lambda name, rule: name in ("dense", "conv"))
)
def test_layer_under_xla(name, rule):
    results = []
    for jit_compile in (False, True):
        made, x = layer(name, rule)
        results.append(tf.function(call(made, x), jit_compile=jit_compile)(x))
        results[-1] += made.get_weights()
    assert_close(results[1], results[0], 2e-5)


@pytest.mark.every(4)
@pytest.mark.parametrize("rule", QUICK_FIRST)
def test_ways_to_train(rule):
    """fit in graph and eager mode, train_on_batch and a GradientTape loop: the same weights."""
    x, y = data(3)
    results = []
    for way in ("graph", "eager", "batches", "tape"):
        model = compile_network(network(rule), run_eagerly=way == "eager", jit_compile=False)
        if way in ("graph", "eager"):
            train(model, 3)
        elif way == "batches":
            for start in range(0, 24, 8):
                model.train_on_batch(x[start : start + 8], y[start : start + 8])
        else:
            for start in range(0, 24, 8):
                tape_step(model, x[start : start + 8], y[start : start + 8])
        results.append(model.get_weights())
    for other in results[1:]:
        assert_close(other, results[0], 1e-5)


def tape_step(model, x, y):
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = cross_entropy()(y, model(x, training=True)) + sum(model.losses)
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_network_under_xla(rule):
    results = []
    for jit_compile in (False, True):
        model = compile_network(network(rule), jit_compile=jit_compile)
        train(model, 3)
        results.append(model.get_weights())
    assert_close(results[1], results[0], 1e-4)


@pytest.mark.every(8)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("rule", QUICK_FIRST)
def test_plain_compile(rule, optimizer):
    model = network(rule)
    before = model.get_weights()
    model.compile(optimizer, cross_entropy())
    x, y = data(2)
    model.train_on_batch(x, y)
    for variable, old in zip(model.weights, before, strict=True):
        new = variable.numpy()
        assert np.isfinite(new).all()
        if not variable.trainable and variable.name == "kernel":
            assert rule == "frozen"
        elif variable.name == "kernel" or variable.name == "feedback_kernel" and rule in LEARN:
            assert (new != old).any(), variable.path


@pytest.mark.every(3)
@pytest.mark.parametrize("rule", QUICK_FIRST)
def test_batch_of_one(rule):
    model = compile_network(network(rule))
    x, y = data(1)
    model.fit(x[:2], y[:2], 1, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.every(4)
@pytest.mark.parametrize("rule", RULES)
def test_inference_leaves_everything_as_it_is(rule):
    model = network(rule)
    before = model.get_weights()
    for training in (None, False):
        model(data(1)[0], training=training)
    model.compile(loss=cross_entropy(), run_eagerly=True)
    model.evaluate(*data(1), verbose=0)
    assert_close(model.get_weights(), before)
    assert model.losses == []
