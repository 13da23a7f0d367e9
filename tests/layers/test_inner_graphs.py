"""Layers that custom code calls inside of branches, loops and functions of TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, layers
from tfcredit.errors import UserError

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.arange(6) % 3


def by_rows(apply):
    return lambda row: apply(row[None])[0]


def is_so(x):
    """True; a graph does not know it while it is made."""
    return tf.reduce_sum(x) > -1e9


FLOWS = {
    "tf.cond": (1, lambda f, x: tf.cond(is_so(x), lambda: f(x), lambda: x)),
    "keras.ops.cond": (1, lambda f, x: keras.ops.cond(is_so(x), lambda: f(x), lambda: x)),
    "tf.switch_case": (
        1,
        lambda f, x: tf.switch_case(tf.cast(is_so(x), tf.int32), [lambda: x, lambda: f(x)]),
    ),
    "tf.while_loop": (
        2,
        lambda f, x: tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, f(v)), (0, x))[1],
    ),
    "keras.ops.scan": (2, lambda f, x: keras.ops.scan(lambda c, _: (f(c), c), x, length=2)[0]),
    "keras.ops.fori_loop": (2, lambda f, x: keras.ops.fori_loop(0, 2, lambda i, v: f(v), x)),
    "tf.map_fn": (1, lambda f, x: tf.map_fn(by_rows(f), x)),
    "tf.function": (1, lambda f, x: tf.function(f)(x)),
}


def mapped(apply, x):
    return keras.ops.vectorized_map(by_rows(apply), x)


class Flow(keras.layers.Layer):
    """Calls a layer as a function of (what calls it, input) says."""

    def __init__(self, flow, inner, **kwargs):
        super().__init__(**kwargs)
        self.flow, self.inner = flow, inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=None):
        return self.flow(lambda v: self.inner(v, training=training), x)


def network(flow, rule, eager=False):
    """A network with the flow in its middle."""
    inner = layers.Dense(4, rule=rule, seed=2, kernel_initializer=drawn(1), name="inner")
    low = layers.Dense(
        4, "tanh", rule="feedback_alignment", seed=3, kernel_initializer=drawn(2), name="low"
    )
    top = keras.layers.Dense(3, kernel_initializer=drawn(3))
    model = keras.Sequential([keras.Input((4,)), low, Flow(flow, inner, name="flow"), top])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, run_eagerly=eager)
    return model


def drawn(seed):
    return keras.initializers.GlorotUniform(seed)


def in_python(times):
    """What a flow does, without it."""

    def flow(apply, x):
        for _ in range(times):
            x = apply(x)
        return x

    return flow


def fitted(model):
    model.fit(X, Y, verbose=0, batch_size=6, epochs=2)
    return model.get_weights()


@pytest.mark.every(4)
@pytest.mark.parametrize("name", FLOWS)
def test_rules_that_only_route_errors_are_right_in_all(name):
    times, flow = FLOWS[name]
    model, wanted = (network(each, "feedback_alignment") for each in (flow, in_python(times)))
    for got, want in zip(fitted(model), fitted(wanted), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    error, known = (analysis.ErrorAngles(X, Y)(each)[0] for each in (model, wanted))
    assert error == pytest.approx(known, rel=1e-4, nan_ok=True)


def test_measures_that_see_no_layer_say_so():
    inner = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((4,)), Flow(FLOWS["tf.function"][1], inner)])
    with pytest.raises(UserError, match="sees no layer .* inside of branches, loops or functions"):
        analysis.ErrorAngles(X, Y, lambda y, outputs: tf.reduce_sum(outputs))(model)


@pytest.mark.every(5)
@pytest.mark.parametrize("rule", ["info_alignment", "kolen_pollack", "low_dimensional_feedback"])
@pytest.mark.parametrize("name", FLOWS)
def test_rules_that_add_losses_are_refused_with_the_layer(name, rule):
    with pytest.raises(UserError, match="layer 'inner' adds a loss .* inside of a branch"):
        fitted(network(FLOWS[name][1], rule))


def test_other_losses_of_a_layer_are_keras_own():
    """Those of its activity teach no feedback kernel."""
    given = {"activity_regularizer": "l2", "kernel_initializer": drawn(1)}
    mine, theirs = (
        layers.Dense(4, rule="feedback_alignment", **given),
        keras.layers.Dense(4, **given),
    )
    outputs = []
    for inner in (mine, theirs):
        flow = Flow(FLOWS["tf.cond"][1], inner)
        flow.build((None, 4))
        outputs.append(tf.function(flow, autograph=False)(X))
    np.testing.assert_allclose(*outputs, rtol=1e-6)


def test_rules_that_renew_b_take_branches_and_loops():
    times, flow = FLOWS["tf.while_loop"]
    got, want = (fitted(network(f, "calibrated_mirror")) for f in (flow, in_python(times)))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_eager_branches_and_loops_take_every_rule():
    times, flow = FLOWS["keras.ops.scan"]
    got, want = (fitted(network(f, "info_alignment", True)) for f in (flow, in_python(times)))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.every(3)
@pytest.mark.parametrize("rule", ["feedback_alignment", "weight_mirror", "frozen_backprop"])
@pytest.mark.parametrize("eager", [False, True])
def test_vectorized_map_is_for_backprop_and_inference(rule, eager):
    model = network(mapped, rule, eager)
    expected = network(in_python(1), rule)
    expected.set_weights(model.get_weights())
    np.testing.assert_allclose(model(X, training=False), expected(X, training=False), 1e-4, 1e-6)
    with pytest.raises(UserError, match="'inner' is trained inside of tf.vectorized_map"):
        fitted(model)


def test_vectorized_map_around_a_network():
    """Gradients from outside are lost, so it is refused; those of a tape inside are right."""
    model = network(in_python(1), "info_alignment")
    kernels = [layer.kernel for layer in analysis.feedback_layers(model)]

    def of_one(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x[None], training=True) ** 2)
        return tape.gradient(loss, kernels)

    mapped_outputs = tf.vectorized_map(by_rows(model), X)  # no training call
    np.testing.assert_allclose(mapped_outputs, model(X), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="trained inside of tf.vectorized_map"), tf.GradientTape():
        tf.vectorized_map(by_rows(lambda x: model(x, training=True)), X)
    found, one_by_one = tf.vectorized_map(of_one, X), zip(*map(of_one, X), strict=True)
    for ours, wanted in zip(found, one_by_one, strict=True):
        np.testing.assert_allclose(ours, tf.stack(wanted), rtol=1e-4, atol=1e-5)


def test_vectorized_map_trains_layers_of_backprop():
    got, want = (fitted(network(flow, "backprop")) for flow in (mapped, in_python(1)))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "inner",
    [
        lambda: layers.GRU(4, rule="feedback_alignment"),
        lambda: layers.SeparableConv1D(4, 1, rule="feedback_alignment"),
        lambda: layers.Dense(4, rule="low_dimensional_feedback"),
        lambda: layers.Dense(4, rule="direct_feedback_alignment"),
    ],
)
def test_every_kind_of_layer_refuses_vectorized_map(inner):
    flow = Flow(mapped, inner())
    rows = tf.ones((2, 3, 4) if inner().name.startswith(("gru", "sep")) else (2, 4))
    flow.build((None, *rows.shape[1:]))
    with pytest.raises(UserError, match="layer '.*' is trained inside of tf.vectorized_map"):
        tf.function(flow, autograph=False)(rows, training=True)


def test_a_whole_step_may_be_inside_of_anything():
    model = network(in_python(1), "info_alignment")

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = model.loss(y, model(x, training=True)) + tf.add_n(model.losses)
        return tape.gradient(loss, model.trainable_variables)

    def in_loop(x, y):
        nothing = [tf.zeros(v.shape) for v in model.trainable_variables]
        return tf.while_loop(lambda i, *_: i < 1, lambda i, *_: (i + 1, *step(x, y)), (0, *nothing))

    outside = step(X, Y)
    for one, other in zip(tf.function(in_loop)(X, Y)[1:], outside, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
