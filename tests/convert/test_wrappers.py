"""Layers inside of Keras' wrappers and of a user's: converted, trained, and back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, convert

L = keras.layers
STEPS, WIDTH = 3, 4
X = np.random.default_rng(0).normal(size=(5, STEPS, WIDTH)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Halving(L.Wrapper):
    """A wrapper of a user's."""

    def call(self, x):
        return 0.5 * self.layer(x)


def inner_network():
    layers = [keras.Input((WIDTH,)), L.Dense(6, "tanh", name="in"), L.LayerNormalization()]
    return keras.Sequential([*layers, L.Dense(2, name="out")], name="net")


WRAPPED = {
    "steps": (lambda: L.TimeDistributed(L.Dense(2, name="dense"), name="own"), ["own/dense"]),
    "network": (
        lambda: L.TimeDistributed(inner_network(), name="own"),
        ["own/net/in", "own/net/out"],
    ),
    "wrapper in a wrapper": (
        lambda: L.TimeDistributed(Halving(L.Dense(2, name="dense"), name="half"), name="own"),
        ["own/half/dense"],
    ),
    "spectral": (
        lambda: L.SpectralNormalization(L.Dense(2, name="dense"), name="own"),
        ["own/dense"],
    ),
    "a user's": (lambda: Halving(L.Dense(2, name="dense"), name="own"), ["own/dense"]),
    "pipeline": (lambda: L.Pipeline([L.Dense(2, name="dense")], name="own"), ["own/dense"]),
    "both ways": (
        lambda: L.Bidirectional(L.SimpleRNN(2, return_sequences=True, name="rnn"), name="own"),
        ["own/forward_rnn", "own/backward_rnn"],
    ),
}


def network(wrapped, steps=STEPS):
    first = L.Dense(WIDTH, name="first")
    return keras.Sequential([keras.Input((steps, WIDTH)), first, WRAPPED[wrapped][0]()])


def learned(model):
    return [record["layer"] for record in convert.report(model) if record["rule"] != "backprop"]


def gradients(model):
    """Of the forward weights in a training call."""
    own = [v for v in model.trainable_variables if "feedback" not in v.name]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(X, training=True) ** 2)
    return tape.gradient(loss, [v.value for v in own])


@pytest.mark.every(4)
@pytest.mark.parametrize("name", WRAPPED)
def test_what_a_wrapper_holds_is_converted_and_comes_back(name, tmp_path):
    plain = network(name)
    model = convert.to_feedback(plain, "kolen_pollack", seed=0, strict=True)
    assert learned(model) == ["first", *WRAPPED[name][1]]
    np.testing.assert_array_equal(model(X), plain(X))
    for layer in analysis.feedback_layers(model):
        layer.feedback_kernel.assign(layer.kernel)
    pairs = zip(gradients(model), gradients(plain), strict=True)
    for one, other in pairs if name != "spectral" else ():  # W is divided by its norm first
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    before = [layer.feedback_kernel.numpy() for layer in analysis.feedback_layers(model)]
    model.compile("sgd", "mse")
    model.fit(X, np.zeros_like(model(X)), verbose=0)
    for layer, value in zip(analysis.feedback_layers(model), before, strict=True):
        assert (layer.feedback_kernel.numpy() != value).any()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert learned(loaded) == learned(model)
    np.testing.assert_array_equal(loaded(X), model(X))
    back = convert.to_backprop(loaded)
    assert learned(back) == [] and not analysis.feedback_layers(back)
    np.testing.assert_array_equal(back(X), model(X))


def test_steps_are_training_calls_whose_sums_are_those_of_a_sequence():
    """A dense layer takes a sequence as it is: a sum over its positions, too."""
    losses = []
    for layer in (L.Dense(2), L.TimeDistributed(L.Dense(2))):
        plain = keras.Sequential([keras.Input((STEPS, WIDTH)), layer])
        model = convert.to_feedback(plain, "0.1*amp + 0.05*null", seed=0)
        (inner,) = analysis.feedback_layers(model)
        for variable in (inner.kernel, inner.feedback_kernel):
            variable.assign(np.linspace(-1.0, 1.0, 8).reshape(variable.shape))
        model(X, training=True)
        losses.append(float(sum(model.losses)))
    assert losses[0] != 0.0 and losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_unknown_steps_stay_on_backprop_with_the_reason():
    plain = network("steps", steps=None)
    with pytest.warns(UserWarning, match="own/dense: TimeDistributed around it does not know the"):
        model = convert.to_feedback(plain, "feedback_alignment", seed=0)
    assert learned(model) == ["first"]
    np.testing.assert_array_equal(model(X), plain(X))


def test_feedback_layers_come_back_from_where_no_steps_are_known():
    """Somebody put them there, in a layer that `to_feedback` would leave alone."""
    made = convert.to_feedback(network("steps"), "feedback_alignment", seed=0).layers[-1]
    model = keras.Sequential([keras.Input((None, WIDTH)), made])
    assert learned(model) == ["own/dense"]
    assert learned(convert.to_backprop(model)) == []


@keras.saving.register_keras_serializable("tests")
class Normed(L.Layer):
    """Makes a wrapper that holds the kernel of the layer in it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm = L.SpectralNormalization(L.Dense(2, name="dense"), name="norm")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, x, training=None):
        return self.norm(x, training=training)


def test_a_wrapper_that_code_makes_holds_the_kernel_that_is_used():
    plain = keras.Sequential([keras.Input((STEPS, WIDTH)), Normed(name="own")])
    model = convert.to_feedback(plain, "feedback_alignment", seed=0, strict=True)
    back = convert.to_backprop(model)
    for _ in range(2):  # each divides the kernel by its norm
        expected = plain(X, training=True)
        for each in (model, back):
            np.testing.assert_allclose(each(X, training=True), expected, rtol=1e-5)
            assert each.layers[0].norm.kernel is each.layers[0].norm.layer.kernel
            assert len(each.layers[0].norm.weights) == len(each.weights)


def test_checkpoints_of_tensorflow_hold_the_kernel_that_is_used(tmp_path):
    plain = keras.Sequential([keras.Input((4,)), Normed(name="own")])
    made = convert.to_feedback(plain, "tracking_mirror", seed=0)
    kernel = made.get_layer("own").norm.layer.kernel
    checkpoint, before = tf.train.Checkpoint(model=made), kernel.numpy()
    path = checkpoint.write(str(tmp_path / "of"))
    kernel.assign(2 * before)
    checkpoint.read(path).assert_consumed()
    np.testing.assert_array_equal(kernel.numpy(), before)


@keras.saving.register_keras_serializable("tests")
class Decayed(Normed):
    """Makes a layer with a regularizer."""

    def __init__(self, **options):
        L.Layer.__init__(self, **options)
        self.norm = L.Dense(2, kernel_regularizer="l2", name="dense")

    def call(self, x):
        return self.norm(x)


def test_b_decays_as_far_as_the_kernel_that_is_used_is_trained():
    plain = keras.Sequential([keras.Input((4,)), Decayed(name="own")])
    made = convert.to_feedback(plain, "tracking_mirror", seed=0)
    dense = made.get_layer("own").norm
    assert dense.feedback_kernel.regularizer.kernel is dense.kernel
