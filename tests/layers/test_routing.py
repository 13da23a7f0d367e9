"""Errors travel through B and only B; the forward kernel learns as under backprop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import SPECIAL, is_quick
from tests.crossing import crossed
from tfcredit import layers, rules

# "alignment" has no default. Kernels that don't learn and thin factors have tests of their own.
NAMED = [SPECIAL.get(name, name) for name in rules.names() if name != "alignment"]
NAMED = [n for n in NAMED if rules.get(n).trains_kernel and rules.get(n).feedback_rank is None]
LAYERS = {
    "dense": (lambda **kw: layers.Dense(4, "tanh", **kw), (5,)),
    "dense rank 4": (lambda **kw: layers.Dense(4, use_bias=False, **kw), (2, 3, 5)),
    "conv": (lambda **kw: layers.Conv2D(4, 3, activation="tanh", **kw), (6, 5, 2)),
    "strided": (lambda **kw: layers.Conv2D(4, 3, 2, "same", **kw), (6, 5, 2)),
    "pointwise": (lambda **kw: layers.Conv2D(4, 1, 2, **kw), (6, 5, 2)),
    "dilated": (lambda **kw: layers.Conv2D(4, 2, dilation_rate=2, **kw), (6, 5, 2)),
    "grouped": (lambda **kw: layers.Conv2D(4, 2, groups=2, **kw), (6, 5, 2)),
    "channels first": (
        lambda **kw: layers.Conv2D(4, 3, 2, "same", data_format="channels_first", **kw),
        (2, 6, 5),
    ),
}


def built(name, rule):
    make, shape = LAYERS[name]
    layer = make(rule=rule, seed=3)
    layer.build((None, *shape))
    return layer


def twin(layer, name, kernel):
    """The Keras layer with this kernel and the layer's bias."""
    plain = built(name, "backprop")
    plain.kernel.assign(kernel)
    if layer.bias is not None:
        plain.bias.assign(layer.bias)
    return plain


def gradients(layer, x, training=True):
    """Of a made-up loss without R: dx, dW and the bias's."""
    variables = [layer.kernel.value] + ([] if layer.bias is None else [layer.bias.value])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        # The error at each output is its own, and does not depend on y.
        weights = np.random.default_rng(1).normal(size=y.shape).astype("float32")
        loss = tf.reduce_sum(weights * y)
    return tape.gradient(loss, [x, *variables])


@pytest.mark.every(3)
@pytest.mark.parametrize("name, rule", crossed(LAYERS, NAMED, quick=is_quick))
def test_error_travels_through_the_feedback_kernel(name, rule):
    x = tf.constant(np.random.default_rng(0).normal(size=(3, *LAYERS[name][1])), tf.float32)
    layer = built(name, rule)
    seen = perturbed(layer, x)
    actual = gradients(layer, x)
    expected = gradients(twin(layer, name, layer.kernel), seen)
    for mine, theirs in zip(actual[1:], expected[1:], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    if rule == "backprop":
        np.testing.assert_allclose(actual[0], expected[0], rtol=0, atol=1e-6)
        return
    if not layer.rule.sends_error:
        assert actual[0] is None
        return
    dy = error_at_product(layer, seen)
    down = layer.connection.op_transpose(dy, layer.feedback_kernel.value, tf.shape(x))
    np.testing.assert_allclose(actual[0], down, rtol=0, atol=1e-5)
    through_forward = layer.connection.op_transpose(dy, layer.kernel.value, tf.shape(x))
    if rule != "frozen_backprop":  # which copies W in its first training call
        assert np.abs(actual[0] - through_forward).max() > 1e-3
    np.testing.assert_allclose(expected[0], through_forward, rtol=0, atol=1e-5)


def perturbed(layer, x):
    """What the layer's product gets of x in its next training call."""
    return layer.layer_state(x, perturbed=True).x if layer.rule.perturbs else x


def error_at_product(layer, x):
    """dy of `gradients` where it leaves the activation."""
    product = layer.connection.op(x, layer.kernel.value)
    if layer.bias is not None:
        bias = layer.bias.value
        first = getattr(layer, "data_format", "") == "channels_first"
        product += tf.reshape(bias, [1, -1, 1, 1]) if first else bias
    with tf.GradientTape() as tape:
        tape.watch(product)
        y = layer.activation(product)
        weights = np.random.default_rng(1).normal(size=y.shape).astype("float32")
        loss = tf.reduce_sum(weights * y)
    return tape.gradient(loss, product)


@pytest.mark.parametrize("name", LAYERS)
def test_error_below_does_not_depend_on_the_forward_kernel(name):
    """Without an activation dy is given, and dx must not change with W."""
    x = tf.constant(np.random.default_rng(0).normal(size=(2, *LAYERS[name][1])), tf.float32)
    layer = built(name, "feedback_alignment")
    layer.activation = None
    before = gradients(layer, x)[0].numpy()
    layer.kernel.assign(2.0 * layer.kernel + 1.0)
    assert (gradients(layer, x)[0].numpy() == before).all()
    layer.feedback_kernel.assign(2.0 * layer.feedback_kernel)
    np.testing.assert_allclose(gradients(layer, x)[0], 2.0 * before, rtol=1e-5, atol=1e-5)


@pytest.mark.every(4)
@pytest.mark.parametrize("rule", NAMED)
def test_outputs_do_not_depend_on_the_rule(rule):
    for name in LAYERS:
        x = tf.constant(np.random.default_rng(0).normal(size=(3, *LAYERS[name][1])), tf.float32)
        layer = built(name, rule)
        kernels = twin(layer, name, layer.kernel)
        for training in (True, False, None):
            expected = kernels(perturbed(layer, x) if training else x)
            np.testing.assert_allclose(layer(x, training=training), expected, rtol=0, atol=1e-5)


def network(module, rule=None):
    options = {} if rule is None else {"rule": rule}
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            module.Conv2D(4, 3, padding="same", activation="relu", **options),
            module.Conv2D(6, 3, strides=2, activation="tanh", **options),
            module.Conv2D(4, 1, strides=2, padding="same", use_bias=False, **options),
            keras.layers.Flatten(),
            module.Dense(8, activation="relu", **options),
            module.Dense(3, **options),
        ]
    )


def data(count=64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 8, 8, 2)).astype("float32")
    return x, (x[..., 0].mean((1, 2)) > 0).astype("int32")


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_momentum():
    return keras.optimizers.SGD(0.05, 0.9)


def make_adam():
    return keras.optimizers.Adam(0.01)


@pytest.mark.parametrize("make_optimizer", [make_momentum, make_adam])
@pytest.mark.every(2)
def test_backprop_trains_as_keras_bit_for_bit(make_optimizer):
    x, labels = data()
    results = []
    for module, rule in [(keras.layers, None), (layers, "backprop")]:
        keras.utils.set_random_seed(5)
        model = network(module, rule)
        # Layers draw a seed of their own, which must not move the others': same initial weights.
        if results:
            model.set_weights(results[0][0])
        initial = model.get_weights()
        model.compile(make_optimizer(), cross_entropy())
        losses = model.fit(x, labels, 16, epochs=5, shuffle=False, verbose=0).history["loss"]
        results.append((initial, model.get_weights(), losses))
    (start, expected, expected_losses), (_, actual, losses) = results
    assert losses == expected_losses
    for before, mine, theirs in zip(start, actual, expected, strict=True):
        assert (mine == theirs).all() and (mine != before).any()


@pytest.mark.parametrize("make_optimizer", [make_momentum, make_adam])
def test_feedback_alignment_never_changes_b(make_optimizer):
    x, labels = data()
    model = network(layers, "feedback_alignment")
    mine = [layer for layer in model.layers if isinstance(layer, layers.FeedbackLayer)]
    before = [(layer.kernel.numpy(), layer.feedback_kernel.numpy()) for layer in mine]
    model.compile(make_optimizer(), cross_entropy())
    model.fit(x, labels, 16, epochs=2, verbose=0)
    for layer, (kernel, feedback) in zip(mine, before, strict=True):
        assert (layer.feedback_kernel.numpy() == feedback).all()
        assert (layer.kernel.numpy() != kernel).any()
