"""R of a part of the batch is unbiased, R in another precision is R; both cost what they say."""

import dataclasses
import itertools
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rules.test_alignment import SUMS, loss_and_gradient, state
from tests.test_primitives import Counting, assert_close
from tfcredit import layers, rules, testing
from tfcredit.connections import ConvConnection, DenseConnection
from tfcredit.rules import AlignmentInputs, AlignmentRule, LayerState

AMP, NULL, SPARSE, DECAY = 0.3, 0.5, 0.4, 0.2
STEPS = 64


def dense_by_hand(x, y, b):
    """dR/dB of all four primitives for a matrix product, from the README's table."""
    n = len(x)
    gradient = -AMP * x.T @ y + NULL * (y @ b.T).T @ y + SPARSE * x.T @ (x @ b)
    return gradient / n + DECAY * b


def windows_of(x):
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # n, i, j, inputs, 3, 3


def conv_by_hand(x, y, b):
    """dR/dB for a 3 x 3 convolution without padding."""
    n, windows = len(x), windows_of(x)

    def hebbian(left, right):
        return np.einsum("nijcuv,nijo->uvco", left, right)

    through = np.einsum("nijo,uvco->nijcuv", y, b)  # each position's share of opT(y; B)
    back = np.zeros_like(x)
    for i, j, u, v in itertools.product(range(y.shape[1]), range(y.shape[2]), range(3), range(3)):
        back[:, i + u, j + v] += through[:, i, j, :, u, v]
    projection = np.einsum("nijcuv,uvco->nijo", windows, b)
    gradient = -AMP * hebbian(windows, y) + NULL * hebbian(windows_of(back), y)
    return (gradient + SPARSE * hebbian(windows, projection)) / n + DECAY * b


CASES = {
    "dense": (DenseConnection(), (4,), (4, 3), dense_by_hand),
    "conv": (ConvConnection((1, 1), "valid"), (5, 4, 2), (3, 3, 2, 3), conv_by_hand),
}
COEFFICIENTS = {"amp": AMP, "null": NULL, "sparse": SPARSE, "decay": DECAY}


def activity(layer, batch, seed=5):
    connection, shape, kernel_shape, _ = CASES[layer]
    draw = np.random.default_rng(0)
    x, w, b = (tf.constant(draw.normal(size=s)) for s in ((batch, *shape), *2 * [kernel_shape]))
    y = connection.op(x, w)
    linear = keras.activations.linear
    return LayerState(connection, x, y, w, b, None, linear, seed, tf.constant(0))


def gradients(given, fraction, steps=STEPS):
    """The gradient of each step."""
    rule = AlignmentRule(COEFFICIENTS, inputs={"fraction": fraction})

    @tf.function
    def gradient(step):
        return loss_and_gradient(rule, dataclasses.replace(given, step=step))[1]

    return np.array([gradient(tf.constant(step)) for step in range(steps)])


@pytest.mark.every(4)
@pytest.mark.parametrize("layer", CASES)
@pytest.mark.parametrize("batch, fraction, size", [(8, 0.25, 2), (7, 0.4, 3)])
def test_the_mean_over_all_parts_is_the_gradient_of_the_batch(layer, batch, fraction, size):
    """With as many equally likely parts as the gradients of many steps show."""
    given, by_hand = activity(layer, batch), CASES[layer][-1]
    x, y, b = (each.numpy() for each in (given.x, given.y, given.feedback_kernel))
    rows = [(start + np.arange(size)) % batch for start in range(batch)]
    expected = np.array([by_hand(x[each], y[each], b) for each in rows])
    found = gradients(given, fraction)
    distances = np.abs(found[:, None] - expected).reshape(STEPS, batch, -1).max(-1)
    assert distances.min(1).max() < 1e-12, "each step's is that of one part"
    counts = np.bincount(distances.argmin(1), minlength=batch)
    spread = np.sqrt(STEPS / batch)
    assert np.abs(counts - STEPS / batch).max() < 3 * spread, "all parts are as likely"
    assert_close(expected.mean(0), by_hand(x, y, b))
    assert np.abs(expected - by_hand(x, y, b)).max() > 1e-2


def test_xla_compiles_parts_of_the_batch_once():
    """Not in each step, as it does where it has to know which part it is."""
    given = activity("conv", 64)  # six steps see six parts of it
    rule = AlignmentRule(COEFFICIENTS, inputs={"fraction": 1 / 64})

    @tf.function(jit_compile=True)
    def gradient(step):
        return loss_and_gradient(rule, dataclasses.replace(given, step=step))[1]

    seconds = []
    for step in range(6):
        started = time.perf_counter()
        gradient(tf.constant(step))
        seconds.append(time.perf_counter() - started)
    assert min(seconds[1:]) < seconds[0] / 100


def test_a_batch_whose_size_the_graph_does_not_know():
    given, fraction = activity("dense", 10), 0.3
    rule = AlignmentRule(COEFFICIENTS, inputs={"fraction": fraction})

    @tf.function
    def gradient(x, y):
        assert x.shape[0] is None
        return loss_and_gradient(rule, dataclasses.replace(given, x=x, y=y))[1]

    unknown = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in (given.x, given.y)]
    dynamic = gradient.get_concrete_function(*unknown)
    for batch in (1, 4, 10):  # parts of 1, 1 and 3 samples
        x, y = given.x[:batch], given.y[:batch]
        size = max(1, round(fraction * batch))
        parts = [(start + np.arange(size)) % batch for start in range(batch)]
        b = given.feedback_kernel.numpy()
        expected = [dense_by_hand(x.numpy()[rows], y.numpy()[rows], b) for rows in parts]
        assert min(np.abs(dynamic(x, y) - each).max() for each in expected) < 1e-12


def test_the_part_is_a_function_of_seed_and_step():
    given = activity("dense", 64)
    first, again = (gradients(given, 1 / 64, 8) for _ in range(2))
    other = gradients(activity("dense", 64, seed=6), 1 / 64, 8)
    assert (first == again).all()
    assert len(np.unique(first[:, 0, 0])) > 5 and (first != other).any((1, 2)).sum() > 5


def test_noise_is_drawn_for_the_part_alone():
    inputs = {"noise": "normal", "fraction": 0.25}
    given = state(step=2, batch=8)
    _, gradient = loss_and_gradient(AlignmentRule({"amp": 1.0}, inputs=inputs), given)
    xi = given.noise([2, 4], "float64", "normal").numpy()
    assert_close(gradient, -xi.T @ (xi @ given.kernel.numpy()) / 2)


@pytest.mark.parametrize("layer", CASES)
def test_products_see_the_part_only(layer):
    class Sizes(Counting):
        def hebbian(self, x, y, kernel_shape):
            assert x.shape[0] == y.shape[0] == 2
            return super().hebbian(x, y, kernel_shape)

        def op_transpose(self, y, kernel, input_shape):
            assert y.shape[0] == 2
            return super().op_transpose(y, kernel, input_shape)

    given = activity(layer, 16)
    connection = Sizes(given.connection)
    rule = rules.get("info_alignment(inputs={'fraction': 0.125})")
    loss_and_gradient(rule, dataclasses.replace(given, connection=connection))
    assert tuple(connection.counts.values()) == (0, 1, 1)


def test_the_whole_batch_is_the_default_and_draws_nothing():
    exact, given = AlignmentRule(SUMS[1]), state()
    same = AlignmentRule(SUMS[1], inputs={"fraction": 1.0, "precision": None})
    assert same == exact and not same.counts_steps and "inputs" not in repr(same)
    for one, other in zip(
        loss_and_gradient(same, given), loss_and_gradient(exact, given), strict=True
    ):
        assert (one.numpy() == other.numpy()).all()
    # R without activity has no part of it to draw.
    assert not AlignmentRule({"self": 1.0}, inputs={"fraction": 0.5}).counts_steps


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.02), ("float16", 0.003)])
@pytest.mark.parametrize("coefficients", SUMS, ids="+".join)
def test_products_in_low_precision(coefficients, dtype, tolerance):
    summed, seen = set(), {tf.as_dtype(dtype)}

    class Dtypes(Counting):
        def hebbian(self, x, y, kernel_shape):
            summed.update({x.dtype, y.dtype})
            return super().hebbian(x, y, kernel_shape)

        def op(self, x, kernel):
            seen.update({x.dtype, kernel.dtype})
            return super().op(x, kernel)

        def op_transpose(self, y, kernel, input_shape):
            seen.update({y.dtype, kernel.dtype})
            return super().op_transpose(y, kernel, input_shape)

    options = {"use_bias_forward": True, "activation_forward": True}
    given = state("conv", dtype="float32")
    exact = loss_and_gradient(AlignmentRule(coefficients, inputs=options), given)
    given = dataclasses.replace(given, connection=Dtypes(given.connection))
    rule = AlignmentRule(coefficients, inputs={**options, "precision": dtype})
    found = loss_and_gradient(rule, given)
    assert seen == {tf.as_dtype(dtype)}
    # Sums over a batch and its positions are beyond float16's range.
    assert summed == {tf.float32 if dtype == "float16" else tf.bfloat16}
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == "float32"
        error = np.linalg.norm(one - other) / np.linalg.norm(other)
        assert 0 < error < tolerance


def test_full_precision_in_a_layer_of_half_precision():
    """R of the rounded activity, but without rounding of its own."""
    made = layers.Dense(
        3, rule="weight_mirror(inputs={'precision': 'float32'})", dtype="mixed_bfloat16"
    )
    made.build((None, 4))
    given = made.layer_state(tf.cast(tf.random.stateless_normal([8, 4], (1, 2)), "bfloat16"))
    _, gradient = loss_and_gradient(made.rule, given)
    x, y = (tf.cast(each, "float32").numpy() for each in (given.x, given.y))
    expected = -1e-3 * x.T @ y / 8 + 2e-3 * given.feedback_kernel.numpy()
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_options_are_part_of_the_rule():
    rule = rules.get("info_alignment(inputs={'fraction': 0.125, 'precision': 'bfloat16'})")
    assert rules.get(rules.serialize(rule)) == rule != rules.get("info_alignment")
    assert rule.inputs == AlignmentInputs(fraction=0.125, precision="bfloat16")
    assert "'fraction': 0.125" in repr(rule) and rule.counts_steps


def test_cost_is_measured():
    report = testing.check_rule("info_alignment(inputs={'fraction': 0.4})")
    assert report.products == pytest.approx({"op": 0.0, "op_transpose": 0.4, "hebbian": 0.4})
    assert report.local and not report.strategies


SCRIPT = """
import sys
import numpy as np
from tfcredit import layers
layer = layers.Dense(2, rule="info_alignment(inputs={'fraction': 0.25})", seed=1)
with strategy.scope():
    layer.build((None, 3))
state = layer.layer_state(tf.ones([4, 3]))

@tf.function
def numbers():
    return strategy.run(lambda: state.whole_number(10**6)).values

np.save(sys.argv[1], [number.numpy() for number in numbers()])
"""


@pytest.mark.multi_device
@pytest.mark.slow
def test_each_replica_has_a_part_of_its_own(two_cpus, tmp_path):
    two_cpus(SCRIPT, str(tmp_path / "numbers.npy"))
    first, second = np.load(tmp_path / "numbers.npy")
    assert first != second
