"""Feedback through two thin factors: against the whole product of both, and what it costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import LAYERS, compile_network, network, train
from tfcredit import analysis, convert, layers, models, rules
from tfcredit.errors import UserError
from tfcredit.layers import backprop_errors

L = keras.layers


def made(name, rank=2, decay=0.0):
    make, shape = LAYERS[name]
    keras.utils.set_random_seed(0)
    layer = make(rule=f"low_dimensional_feedback(rank={rank}, decay={decay})", seed=3)
    layer.build((None, *shape))
    return layer, tf.constant(np.random.default_rng(0).normal(size=(3, *shape)), "float32")


@pytest.mark.parametrize("name", LAYERS)
def test_errors_and_what_teaches_the_factors(name):
    """As of the whole B = Q P: dx = opT(dy; B), and dW's gradient of B in both factors."""
    layer, x = made(name)
    variables = [layer.kernel, *layer.feedback_factors]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.sin(3.0 * y))
    dx, dw, dq, dp = tape.gradient(loss, [x, *(v.value for v in variables)])
    backprop = {"rule": rules.serialize(rules.get("backprop"))}
    plain = type(layer).from_config(layer.get_config() | backprop)
    plain.build(x.shape)
    plain.set_weights([v.numpy() for v in layer.weights if "feedback" not in v.name])
    with tf.GradientTape() as other:
        total = tf.reduce_sum(tf.sin(3.0 * plain(x)))
    np.testing.assert_allclose(dw, other.gradient(total, plain.kernel.value), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(y, plain(x))
    # Through the product, with the derivative of the product by its factors.
    q, p = map(tf.convert_to_tensor, layer.feedback_factors)
    with tf.GradientTape() as through:
        through.watch([q, p])
        taught = tf.reduce_sum(layer._factors.product(q, p) * dw)
    for mine, theirs in zip((dq, dp), through.gradient(taught, [q, p]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    dy = error_at_product(layer, x)
    expected = layer.connection.op_transpose(dy, layer.feedback_product, tf.shape(x))
    np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-5)
    with backprop_errors():
        true = tape.gradient(loss, x)
    expected = layer.connection.op_transpose(dy, tf.convert_to_tensor(layer.kernel), tf.shape(x))
    np.testing.assert_allclose(true, expected, rtol=1e-4, atol=1e-5)


def error_at_product(layer, x):
    """The error of the test's loss at op(x; W)."""
    y = layer.connection.op(x, tf.convert_to_tensor(layer.kernel))
    with tf.GradientTape() as tape:
        tape.watch(y)
        loss = tf.reduce_sum(tf.sin(3.0 * layer._activated(y, layer._shaped_bias())))
    return tape.gradient(loss, y)


@pytest.mark.parametrize("name", ["dense", "conv", "grouped", "einsum"])
def test_the_product_has_the_rank(name):
    layer, _ = made(name)
    product = np.asarray(layer.feedback_product)
    assert product.shape == tuple(layer.kernel.shape)
    axes = layer.connection.axes(list(product.shape))
    matrix = layer._factors._matrix(tf.constant(product), axes.shape).numpy()
    assert np.linalg.matrix_rank(matrix, tol=1e-5) == 2
    assert layer.feedback_kernel is None and len(layer.trainable_variables) > 2


def test_a_rank_above_the_kernels_is_that_of_the_kernel():
    layer, _ = made("dense", rank=1000)
    q, p = layer.feedback_factors
    assert (tuple(q.shape), tuple(p.shape)) == ((5, 4), (4, 4))


def test_no_whole_feedback_kernel_is_kept():
    wide = layers.Dense(200, rule="low_dimensional_feedback(rank=3)")
    wide.build((None, 300))
    kept = sum(int(np.prod(v.shape)) for v in wide.weights) - 300 * 200 - 200
    assert kept == 3 * (300 + 200)


def test_decay_and_optimizer_are_those_of_the_rule():
    """Without error nothing but the decay moves the factors."""
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(3, rule="low_dimensional_feedback(rank=2, decay=0.5)")]
    )
    model.compile(keras.optimizers.SGD(0.1), lambda y, z: 0.0 * tf.reduce_sum(z))
    before = [v.numpy() for v in model.layers[0].feedback_factors]
    model.fit(np.ones((2, 5)), np.ones((2, 3)), verbose=0)
    for now, then in zip(model.layers[0].feedback_factors, before, strict=True):
        np.testing.assert_allclose(now.numpy(), 0.95 * then, rtol=1e-5)
    assert all(v.follows_forward for v in model.layers[0].feedback_factors)


def test_saved_loaded_converted_and_measured(tmp_path):
    plain = keras.Sequential(
        [keras.Input((6, 6, 2)), L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(3)]
    )
    model = convert.to_feedback(plain, "low_dimensional_feedback(rank=2)", seed=1)
    compile_network(model, keras.optimizers.SGD(0.05))
    train(model, 2)
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert train(model, 2, first=2) == train(loaded, 2, first=2)
    angles = [record["angle"] for record in analysis.alignment(model)]
    assert len(angles) == 2 and all(30 < angle < 120 for angle in angles)
    back = convert.to_backprop(model)
    assert len(back.weights) == 4
    with pytest.raises(UserError, match="was saved from a layer with another rule"):
        network("feedback_alignment").layers[0].load_own_variables({"feedback_factor": 0})


def test_it_brings_the_product_towards_w():
    """With a decay on both, B = Q P comes to hold what W has learned."""
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    target = x @ np.random.default_rng(1).normal(size=(8, 3)).astype("float32")
    top = layers.Dense(3, rule="low_dimensional_feedback(rank=3, decay=0.01)", seed=2)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, rule="backprop"), top])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    before = analysis.alignment(model)[0]["angle"]
    model.fit(x, target, 32, epochs=40, verbose=0)
    assert analysis.alignment(model)[0]["angle"] < min(60, before - 15)


MISTAKES = {
    "rank=0": "rank=0 must be an integer >= 1",
    "rank=2.5": "rank=2.5 must be an integer",
    "decay=-1": "decay=-1 must be a finite number >= 0",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_told(arguments):
    with pytest.raises(UserError, match=MISTAKES[arguments]):
        rules.get(f"low_dimensional_feedback({arguments})")


def test_outputs_elsewhere_are_refused():
    layer = layers.Conv2D(4, 3, data_format="channels_first", rule="low_dimensional_feedback")
    with pytest.raises(UserError, match="does not have its outputs on the last axes"):
        layer.build((None, 2, 6, 6))
