"""Layers of several kernels against the Keras layers of their names, and their inner layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import QUICK, RULES
from tests.crossing import crossed
from tfcredit import analysis, convert, layers, rules

SEPARABLE = {"depth_multiplier": 2, "activation": "tanh", "strides": 2}
LAYERS = {
    "SeparableConv1D": ((4, 3), SEPARABLE, (8, 3)),
    "SeparableConv2D": ((4, 3), SEPARABLE | {"padding": "same"}, (6, 5, 3)),
    "MultiHeadAttention": ((2, 3), {"value_dim": 4, "dropout": 0.0}, (5, 6)),
    "GroupQueryAttention": ((3, 4, 1), {"use_bias": False}, (5, 6)),
}
COUNTS = {"SeparableConv1D": 2, "SeparableConv2D": 2}  # of kernels; the others have four
EVERY = pytest.mark.parametrize("name", LAYERS)


def plain(name):
    """A network of one Keras layer."""
    arguments, options, shape = LAYERS[name]
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    layer = getattr(keras.layers, name)(*arguments, **options, name="layer")
    model = keras.Model(inputs, layer(inputs) if "Conv" in name else layer(inputs, inputs))
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    return model


def batch(name):
    values = np.random.default_rng(0).normal(size=(3, *LAYERS[name][2]))
    return tf.constant(values, tf.float32)


def gradients(model, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
        loss = tf.reduce_sum(np.random.default_rng(1).normal(size=y.shape).astype("float32") * y)
    sources = [v.value for v in model.trainable_variables if v.name != "feedback_kernel"]
    return tape.gradient(loss, [x, *sources])


SENDING = [rule for rule in RULES if rules.get(RULES[rule]).sends_error]


# The inner layers are those of tests/conformance, which each rule is tried on.
@pytest.mark.every(8)
@pytest.mark.parametrize(
    "name, rule",
    crossed(LAYERS, SENDING, quick=lambda n, rule: rule in QUICK or n == "SeparableConv2D"),
)
def test_outputs_are_the_keras_layers(name, rule):
    theirs = plain(name)
    mine = convert.to_feedback(theirs, RULES[rule], seed=1)
    x = batch(name)
    for training in (False,) if rules.get(RULES[rule]).perturbs else (False, True):
        np.testing.assert_array_equal(mine(x, training=training), theirs(x, training=training))
    back = convert.to_backprop(mine)
    assert type(back.layers[-1]) is getattr(keras.layers, name)
    np.testing.assert_array_equal(back(x), theirs(x))


@EVERY
def test_gradients_are_the_keras_layers_where_b_is_w(name):
    theirs = plain(name)
    mine = convert.to_feedback(theirs, "feedback_alignment", seed=1)
    inner = analysis.feedback_layers(mine)
    assert len(inner) == COUNTS.get(name, 4)
    for layer in inner:
        layer.feedback_kernel.assign(layer.kernel)
    expected = gradients(theirs, batch(name))
    for actual, wanted in zip(gradients(mine, batch(name)), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5)


@EVERY
def test_errors_travel_through_each_feedback_kernel(name):
    mine = convert.to_feedback(plain(name), "feedback_alignment", seed=1)
    before = gradients(mine, batch(name))
    for layer in analysis.feedback_layers(mine):
        old = layer.feedback_kernel.numpy()
        layer.feedback_kernel.assign(2 * old)
        after = gradients(mine, batch(name))
        assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        layer.feedback_kernel.assign(old)


@EVERY
def test_every_inner_layer_learns_its_feedback_kernel(name):
    mine = convert.to_feedback(plain(name), "info_alignment", seed=1)
    mine(batch(name), training=True)
    assert len(mine.losses) == COUNTS.get(name, 4)
    mine.compile("sgd", "mse")
    before = [layer.feedback_kernel.numpy() for layer in analysis.feedback_layers(mine)]
    mine.train_on_batch(batch(name), np.zeros_like(mine(batch(name))))
    for layer, old in zip(analysis.feedback_layers(mine), before, strict=True):
        assert not np.array_equal(layer.feedback_kernel, old)


@EVERY
def test_feedback_kernels_are_seeded_and_independent(name):
    made = [convert.to_feedback(plain(name), "info_alignment", seed=seed) for seed in (1, 1, 2)]
    kernels = [[v.feedback_kernel.numpy() for v in analysis.feedback_layers(m)] for m in made]
    for one, same, other in zip(*kernels, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
    if "Attention" in name:  # Its projections have the same initializer.
        assert len({kernel.tobytes() for kernel in kernels[0]}) == len(kernels[0])


@pytest.mark.every(7)
@EVERY
@pytest.mark.parametrize("rule", ["backprop", "info_alignment", "calibrated_mirror"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_saving_keeps_everything(name, rule, dtype, tmp_path):
    arguments, options, shape = LAYERS[name]
    inputs = keras.Input(shape)
    layer = getattr(layers, name)(*arguments, **options, rule=rule, dtype=dtype)
    model = keras.Model(inputs, layer(inputs) if "Conv" in name else layer(inputs, inputs))
    model.compile("sgd", "mse")
    model.train_on_batch(batch(name), np.zeros_like(model(batch(name))))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model.weights, loaded.weights, strict=True):
        assert one.dtype == other.dtype in ("float32", "int32")
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model(batch(name)), loaded(batch(name)))
    for network in (model, loaded):  # the step count and the seeds of the noise too
        network.train_on_batch(batch(name), np.zeros_like(model(batch(name))))
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_options_of_separable_layers_are_the_keras_layers():
    for options in (
        {"use_bias": False, "data_format": "channels_first"},
        {"dilation_rate": 2, "padding": "same"},
        {"activation": "relu", "depth_multiplier": 3},
    ):
        theirs = keras.layers.SeparableConv2D(4, (3, 2), **options)
        mine = layers.SeparableConv2D(4, (3, 2), rule="feedback_alignment", **options)
        x = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 5, 7)), tf.float32)
        for layer in (theirs, mine):
            layer.build(x.shape)
        for variable in mine.weights:
            wanted = {"depthwise": theirs.depthwise_kernel, "pointwise": theirs.pointwise_kernel}
            part = variable.path.split("/")[-2]
            variable.assign(theirs.bias if variable.name == "bias" else wanted[part])
        # Channels-first kernels of CPUs without AVX-512 round otherwise in depthwise convolutions.
        np.testing.assert_allclose(mine(x), theirs(x), rtol=1e-5, atol=1e-6)
        assert mine.compute_output_shape(x.shape) == mine(x).shape


def test_attention_takes_masks_and_several_inputs():
    query, value = (np.random.default_rng(i).normal(size=(2, 3 + i, 6)) for i in range(2))
    theirs = keras.layers.MultiHeadAttention(2, 4)
    theirs(query, value)
    mine = layers.MultiHeadAttention.from_config(theirs.get_config() | {"rule": "usf"})
    mine(query, value)
    kernels = iter(theirs.get_weights())
    for variable in mine.weights:
        if variable.name != "feedback_kernel":
            variable.assign(next(kernels))
    for options in ({}, {"use_causal_mask": True}, {"attention_mask": np.ones((2, 3, 4), bool)}):
        np.testing.assert_array_equal(
            mine(query, value, **options), theirs(query, value, **options)
        )
