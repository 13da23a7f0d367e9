"""Blocks that are run again in the backward pass learn as they do without."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES, network
from tests.crossing import crossed
from tfcredit import layers, rules
from tfcredit.errors import UserError
from tfcredit.layers import recomputation

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.arange(8) % 3


class Twice(keras.layers.Layer):
    """A block that calls a layer twice, and once more between outside of training."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=None):
        first = self.inner(x, training=training)
        return self.inner(first + 0.1 * self.inner(x, training=False), training=training)


def plain(block):
    return block


def nested(block):
    return tf.recompute_grad(lambda x: tf.recompute_grad(block)(tf.recompute_grad(tf.tanh)(x)))


def unnested(block):
    return lambda x: block(tf.tanh(x))


def trained(rule, wrap, graph=False, steps=2):
    """Variables, losses and errors of a block and a layer after some steps."""
    keras.utils.set_random_seed(0)
    block = Twice(layers.Dense(6, "tanh", rule=RULES.get(rule, rule), seed=1))
    top = layers.Dense(6, rule=RULES.get(rule, rule), seed=2)
    for each in (block, top):
        each.build((None, 6))
    variables = [*block.trainable_variables, *top.trainable_variables]
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(variables)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = top(wrap(lambda x: block(x, training=True))(x), training=True)
            loss = tf.reduce_sum(outputs**2) + sum([*block.losses, *top.losses])
        *gradients, dx = tape.gradient(loss, [*(v.value for v in variables), x])
        given = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        if given:  # `frozen` trains nothing.
            optimizer.apply_gradients(given)
        return loss, tf.zeros_like(x) if dx is None else dx

    step = tf.function(step) if graph else step
    told = [step(tf.constant(X)) for _ in range(steps)]
    weights = [*block.weights, *top.weights]
    return [np.asarray(each) for each in (*weights, *tf.nest.flatten(told))]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


QUICK_IN_GRAPHS = ("calibrated_mirror", "info_alignment", "kolen_pollack", "phase_free_mirror")
CASES = crossed(
    RULES, (False, True), quick=lambda rule, graph: not graph or rule in QUICK_IN_GRAPHS
)


@pytest.mark.every(10)
@pytest.mark.parametrize("rule, graph", CASES)
def test_recompute_grad(rule, graph):
    expected = trained(rule, plain, graph)
    assert_equal(trained(rule, tf.recompute_grad, graph), expected)


@pytest.mark.parametrize("rule", ["calibrated_mirror", "info_alignment", "phase_free_mirror"])
def test_blocks_in_blocks(rule):
    assert_equal(trained(rule, nested), trained(rule, unnested))


def test_r_that_tensorflow_differentiates_and_that_reaches_w():
    options = "{'update_forward': True, 'use_bias_backward': True}"
    rule = f"alignment(coefficients={{'amp': 0.01, 'null': 0.02}}, inputs={options})"
    expected = trained(rule, plain)
    assert_equal(trained(rule, tf.recompute_grad), expected)


def test_backward_pass_twice():
    made = layers.Dense(6, rule="phase_free_mirror", seed=1)
    made.build((None, 6))
    x = tf.constant(X)
    with tf.GradientTape(persistent=True) as tape:
        y = tf.recompute_grad(lambda x: made(made(x, training=True), training=True))(x)
    sources = [made.kernel.value, made.feedback_kernel.value]
    first, second = (tape.gradient(y, sources) for _ in range(2))
    assert_equal(first, second)
    assert np.any(first[0]) and made._step.numpy() == 2


def test_forgets_blocks_that_nobody_runs_again():
    gc.collect()
    before = len(recomputation._KEPT)
    trained("info_alignment", tf.recompute_grad, steps=5)
    assert len(recomputation._KEPT) <= before + 2


class Block(keras.layers.Layer):
    """A user's layer around another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def fitted(rule, scope, eager=False, dtype=None, accumulation=None):
    """Weights after `fit` of a block and layers that were made in a scope."""
    keras.utils.set_random_seed(0)
    with keras.RematScope(**scope):
        hidden = [
            layers.Dense(6, "tanh", rule=rule, seed=n, name=f"hidden{n}", dtype=dtype)
            for n in range(2)
        ]
        hidden[0] = Block(hidden[0])
    top = layers.Dense(3, rule=rule, seed=9)
    model = keras.Sequential([keras.Input((6,)), *hidden, top])
    optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=accumulation)
    if dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=eager)
    model.fit(X, Y, 4, 2, verbose=0, shuffle=False)
    return model.get_weights()


EAGER = {"eager": True}
LARGE = {"mode": "larger_than", "output_size_threshold": 1}
CASES_OF_FIT = [
    ("phase_free_mirror", {"mode": "full"}, EAGER),
    ("info_alignment", LARGE, EAGER),
    ("info_alignment", {"mode": "activations"}, EAGER),
    ("weight_mirror", {"mode": "full"}, {"accumulation": 2} | EAGER),
    ("l_drl", {"mode": "full"}, {"dtype": "mixed_float16"} | EAGER),
    ("symmetric_alignment", {"mode": "list_of_layers", "layer_names": ["hidden1"]}, {}),
    pytest.param("weight_mirror", {"mode": "full"}, {"accumulation": 2}, marks=pytest.mark.slow),
    pytest.param("l_drl", {"mode": "full"}, {"dtype": "mixed_float16"}, marks=pytest.mark.slow),
    pytest.param("calibrated_mirror", {"mode": "full"}, {}, marks=pytest.mark.slow),
]


@pytest.mark.every(3)
@pytest.mark.parametrize("rule, mode, options", CASES_OF_FIT)
def test_remat_scope(rule, mode, options):
    expected = fitted(rule, {"mode": None}, **options)
    found = fitted(rule, mode, **options)
    if options.get("dtype"):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)
        return
    assert_equal(found, expected)


def test_node_perturbation():
    steps = []
    for wrap in (plain, tf.recompute_grad):
        model = network("node_perturbation")
        x = tf.random.stateless_normal((4, 6, 6, 2), (1, 2))
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(wrap(lambda x, model=model: model(x, training=True))(x) ** 2)
        kernels = [each.value for each in model.trainable_variables]
        steps.append([*tape.gradient(total, kernels), model.perturbation_step])
    assert_equal(*steps)
    assert np.any(steps[0][0])


def test_refuses_rules_that_need_errors_without_the_scale():
    class OfErrors(rules.Rule):
        name = "of_errors"

        def gradient(self, state, dy, dw):
            return dw

    made = layers.Dense(6, rule=OfErrors())
    with pytest.raises(UserError, match="without the scale of the loss"):
        tf.recompute_grad(lambda x: made(x, training=True))(X)
    assert tf.recompute_grad(lambda x: made(x))(X).shape == (8, 6)


def test_refuses_functions_inside():
    made = layers.Dense(6, rule="info_alignment")
    made.build((None, 6))
    inside = tf.function(lambda x: made(x, training=True), autograph=False)
    with pytest.raises(UserError, match=r"tf\.function is inside"):
        tf.recompute_grad(inside)(tf.constant(X))
    resting = layers.Dense(6, rule="feedback_alignment")
    resting.build((None, 6))
    inside = tf.function(lambda x: resting(x, training=True))
    assert tf.recompute_grad(inside)(tf.constant(X)).shape == (8, 6)


REPLICAS = """
import sys
import keras, numpy as np
from tfcredit.layers import Dense
from tests.layers.test_recomputation import Block, X, Y

def weights(rule, mode):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        with keras.RematScope(mode):
            hidden = [Block(Dense(6, "tanh", rule=rule, seed=n)) for n in range(2)]
        model = keras.Sequential([keras.Input((6,)), *hidden, Dense(3, rule=rule, seed=9)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(X, Y, 4, 2, verbose=0, shuffle=False)
    return model.get_weights()

for rule in ("info_alignment", "phase_free_mirror"):
    for one, other in zip(weights(rule, "full"), weights(rule, None), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_replicas(two_cpus):
    two_cpus(REPLICAS)
