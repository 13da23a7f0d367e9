"""Predicted stability against NumPy's eigenvalues, simulations and trainings of real layers."""

import doctest
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from studies import stability, table
from studies.stability import bisect
from tests.conformance.descriptors import LAYERS
from tests.conformance.descriptors import layer as layer_of_kind
from tfcredit import analysis, layers, rules
from tfcredit.errors import UserError
from tfcredit.optimizers import PartitionedOptimizer
from tfcredit.primitives import Seen, value_and_gradient

PAGE = Path(__file__).parents[2] / "docs" / "stability.md"
X = np.random.default_rng(0).normal(size=(40, 6)) * np.linspace(0.3, 1.5, 6)


def dense(rule, units=4, name=None):
    layer = layers.Dense(units, rule=rule, seed=1, use_bias=False, name=name)
    layer.build((None, 6))
    layer.kernel.assign(np.random.default_rng(1).normal(size=(6, units)) / 2)
    return layer


SUM = "0.02*amp + 0.01*null + 0.03*sparse + 0.05*self + 0.1*decay"
SUMS = {
    "weight_mirror": {"amp": 1e-3, "decay": 2e-3},
    "info_alignment": {"amp": 2e-3, "null": 2e-3, "decay": 2e-3},
    "autoencoder_alignment": {"amp": 1e-3, "null": 1e-3},
    "symmetric_alignment": {"self": 0.1, "decay": 0.1},
    "activation_alignment": {"amp": 2e-3, "sparse": 2e-3},
    SUM: {"amp": 0.02, "null": 0.01, "sparse": 0.03, "self": 0.05, "decay": 0.1},
}


@pytest.mark.parametrize("rule", SUMS)
def test_spectrum_and_fixed_point_are_those_of_the_matrix(rule):
    layer, c = dense(rule), dict.fromkeys(["null", "sparse", "decay", "self"], 0.0) | SUMS[rule]
    w = layer.kernel.numpy().astype(float)
    cxx = X.T @ X / len(X)
    cyy = w.T @ cxx @ w
    a = c["decay"] * np.eye(24) + c["null"] * np.kron(np.eye(6), cyy)
    a += c["sparse"] * np.kron(cxx, np.eye(4))
    values = np.linalg.eigvalsh(a)
    fixed = np.linalg.solve(a, (c.get("amp", 0.0) * cxx @ w + c["self"] * w).ravel())
    record = analysis.spectrum(layer, X)
    assert record["largest_eigenvalue"] == pytest.approx(values[-1], rel=1e-6)
    assert record["smallest_eigenvalue"] == pytest.approx(values[0], rel=1e-6)
    assert record["condition_number"] == pytest.approx(values[-1] / values[0], rel=1e-6)
    assert record["fixed_point_angle"] == pytest.approx(analysis.angle(fixed, w), abs=1e-5)
    ratio = np.linalg.norm(fixed) / np.linalg.norm(w)
    assert record["fixed_point_ratio"] == pytest.approx(ratio, rel=1e-6)
    assert record["residual"] < 1e-8


def test_spectrum_of_a_convolution_is_that_of_its_patches():
    layer = layers.Conv2D(3, (2, 3), rule="activation_alignment", seed=1)
    layer.build((None, 5, 6, 2))
    x = np.random.default_rng(0).normal(size=(4, 5, 6, 2))
    patches = np.lib.stride_tricks.sliding_window_view(x, (2, 3), (1, 2)).reshape(-1, 12)
    values = 2e-3 * np.linalg.eigvalsh(patches.T @ patches / 4)
    record = analysis.spectrum(layer, x)
    assert record["largest_eigenvalue"] == pytest.approx(values[-1], rel=1e-6)
    assert record["smallest_eigenvalue"] == pytest.approx(values[0], rel=1e-6)
    assert record["fixed_point_angle"] < 1e-5


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.every(2)
def test_every_kind_of_layer_has_the_spectrum_of_its_matrix(kind):
    layer, x = layer_of_kind(kind, "info_alignment")
    y = layer.connection.op(x, layer.kernel.value)
    c = {"null": 2e-3, "decay": 2e-3}
    columns = [
        value_and_gradient(
            c, Seen(layer.connection, x, y, None, tf.reshape(column, layer.kernel.shape))
        )
        for column in np.eye(np.prod(layer.kernel.shape), dtype="float32")
    ]
    matrix = np.stack([np.ravel(gradient) for _, gradient in columns])
    values = np.linalg.eigvalsh(matrix.astype(float))
    record = analysis.spectrum(layer, x)
    assert record["largest_eigenvalue"] == pytest.approx(values[-1], rel=1e-4)
    assert record["smallest_eigenvalue"] == pytest.approx(values[0], rel=1e-3)
    assert record["residual"] < 1e-6


def test_few_steps_find_the_largest_eigenvalue():
    layer = dense("activation_alignment")
    x = X * np.linspace(1, 5, 6)
    whole, part = analysis.spectrum(layer, x), analysis.spectrum(layer, x, steps=4)
    assert part["largest_eigenvalue"] == pytest.approx(whole["largest_eigenvalue"], rel=0.01)
    assert part["smallest_eigenvalue"] > whole["smallest_eigenvalue"]
    assert part["residual"] > 1e-6 > whole["residual"]


def test_a_rule_of_errors_has_no_fixed_point_of_the_batch():
    record = analysis.spectrum(dense("kolen_pollack"), X)
    assert record["largest_eigenvalue"] == record["smallest_eigenvalue"] == pytest.approx(2e-3)
    assert np.isnan([record["fixed_point_angle"], record["residual"]]).all()
    (alone,) = analysis.safe_rates(keras.Sequential([keras.Input((6,)), dense("0.1*amp")]), X)
    assert alone["largest_eigenvalue"] == 0.0 and alone["largest_learning_rate"] == np.inf
    assert np.isnan(alone["fixed_point_angle"])


OPTIMIZERS = {
    "sgd": {},
    "heavy ball": {"momentum": 0.8},
    "nesterov": {"momentum": 0.8, "nesterov": True},
}


@pytest.mark.every(6)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rule", ["info_alignment", "activation_alignment"])
def test_a_real_layer_diverges_where_predicted(rule, optimizer):
    layer = dense(rule)
    model = keras.Sequential([keras.Input((6,)), layer])
    feedback = keras.optimizers.SGD(1.0, **OPTIMIZERS[optimizer])
    model.compile(
        PartitionedOptimizer(keras.optimizers.SGD(0.0), feedback), "mse", steps_per_execution=300
    )
    (record,) = analysis.safe_rates(model, X, model.optimizer)
    x = np.tile(X, (300, 1)).astype("float32")

    def diverges(rate):
        layer.feedback_kernel.assign(np.random.default_rng(2).normal(size=(6, 4)))
        for variable in feedback.variables[2:]:
            variable.assign(np.zeros(variable.shape))
        feedback.learning_rate = rate
        model.fit(x, np.zeros((len(x), 4)), 40, shuffle=False, verbose=0)
        return not np.linalg.norm(layer.feedback_kernel.numpy()) < 100.0

    found = bisect(diverges, record["largest_learning_rate"])
    stable = max(rate for rate, diverged in found if not diverged)
    unstable = min(rate for rate, diverged in found if diverged)
    assert unstable < 1.03 * stable
    assert stable == pytest.approx(record["largest_learning_rate"], rel=0.03)


def test_rates_of_a_network_and_no_trace():
    shared = layers.Dense(5, rule="symmetric_alignment")
    inner = keras.Sequential([keras.Input((5,)), shared], name="inner")
    inputs = keras.Input((6,))
    hidden = keras.layers.BatchNormalization()(layers.Dense(5, rule="kolen_pollack")(inputs))
    hidden = layers.Dense(5, "relu", rule="calibrated_mirror")(inner(inner(hidden)))
    model = keras.Model(inputs, layers.Dense(2, rule="weight_mirror")(hidden))
    before = model.get_weights()
    optimizer = PartitionedOptimizer(
        keras.optimizers.SGD(0.5, momentum=0.5), keras.optimizers.SGD(0.25)
    )
    first, twice, last = analysis.safe_rates(model, X.astype("float32"), optimizer)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    rates = [record["largest_learning_rate"] for record in (first, twice, last)]
    assert rates == pytest.approx([2 * 1.5 / 2e-3, 2 / 0.2, 2 / 2e-3])
    assert twice["headroom"] == pytest.approx(40.0)
    assert (first["layer"], twice["rule"]) == (model.layers[1].name, "symmetric_alignment")


def test_what_has_no_linear_stability_is_refused():
    tanh = {"activation_backward": True, "activation": "tanh"}
    refused = {
        "calibrated_mirror": "stable for every gain below 2",
        "usf": "does not descend an R under rule 'sign_symmetry|usf'",
        "feedback_alignment": "does not descend an R",
        "backprop": "does not descend an R",
        rules.ActivationAlignment(inputs=tanh): "is not linear and symmetric in B",
    }
    for rule, message in refused.items():
        with pytest.raises(UserError, match=message):
            analysis.spectrum(dense(rule), X)
    for x in (X[:0], X * np.nan):
        with pytest.raises(UserError, match="is not finite: give one sample"):
            analysis.spectrum(dense("info_alignment"), x)
    model = keras.Sequential([keras.Input((6,)), dense("weight_mirror")])
    for optimizer in ("adam", keras.optimizers.SGD(clipnorm=1.0)):
        with pytest.raises(UserError, match="not linear in gradients"):
            analysis.safe_rates(model, X, optimizer)
    with pytest.raises(UserError, match="no layer of the model"):
        analysis.safe_rates(keras.Sequential([keras.Input((6,)), dense("usf")]), X)


# A chain of three layers of one unit each, at no error.
W = np.array([1.2, -0.9, 1.1])
S = np.cumprod([2.0, *W**2])  # mean square of x and of each y
SCALARS = np.sqrt(2.0) * np.array([[1.0], [-1.0]])
FIXED = {  # B_k of each rule, by its own fixed point
    "0.3*amp + 0.2*decay": 1.5 * S[:-1] * W,
    "0.3*amp + 0.1*null + 0.2*decay": 0.3 * S[:-1] * W / (0.2 + 0.1 * S[1:]),
    "0.2*self + 0.2*decay": W,
    "0.3*amp + 0.3*sparse": W,
}
OWN = {  # eigenvalues of each layer's A
    "0.3*amp + 0.2*decay": [0.2] * 3,
    "0.3*amp + 0.1*null + 0.2*decay": 0.2 + 0.1 * S[1:],
    "0.2*self + 0.2*decay": [0.2] * 3,
    "0.3*amp + 0.3*sparse": 0.3 * S[:-1],
}


def curvature(b):
    """The one eigenvalue of W's step that is not zero: the sum over l of s_(l-1) prod w_k b_k."""
    gains = np.cumprod([1.0, *(W * b)[:0:-1]])[::-1]
    return float(S[:-1] @ gains)


def as_kernels(values):
    return [np.full((1, 1), value) for value in values]


@pytest.mark.parametrize("rule", FIXED)
def test_w_and_b_together_at_no_error(rule):
    target = SCALARS * W.prod()
    b, point = FIXED[rule], (as_kernels(W), as_kernels(FIXED[rule]), SCALARS, target)
    values = analysis.joint_eigenvalues(*point, rule, 0.1, 0.5)
    expected = np.concatenate([[1 - 0.1 * curvature(b), 1, 1], 1 - 0.5 * np.array(OWN[rule])])
    np.testing.assert_allclose(np.sort(values.real), np.sort(expected), atol=1e-8)
    np.testing.assert_allclose(values.imag, 0.0, atol=1e-8)
    limit = 2 / curvature(b)
    assert abs(analysis.joint_eigenvalues(*point, rule, 0.99 * limit, 0.5)[0]) < 1 + 1e-8
    assert abs(analysis.joint_eigenvalues(*point, rule, 1.01 * limit, 0.5)[0]) > 1.01


@pytest.mark.parametrize("rule", FIXED)
def test_a_simulated_chain_leaves_its_fixed_point_where_predicted(rule):
    c = dict.fromkeys(["amp", "null", "sparse", "self", "decay"], 0.0)
    c |= rules.get(rule).coefficients

    def leaves(rate):
        w, b = W + [1e-7, -1e-7, 2e-7], FIXED[rule].copy()
        errors = []
        for _ in range(100):
            s = np.cumprod([2.0, *w**2])
            e = w.prod() - W.prod()
            errors.append(abs(e))
            if errors[-1] > 1e-3:
                return True
            # H(y_(l-1), dy_l), with the error through all B above.
            dw = [2.0 * e * w[:k].prod() * b[k + 1 :].prod() for k in range(3)]
            db = c["decay"] * b - c["self"] * w + c["sparse"] * s[:-1] * b
            db += c["null"] * s[1:] * b - c["amp"] * s[:-1] * w
            w, b = w - rate * np.array(dw), b - 0.5 * db
        return errors[-1] > errors[0]

    found = bisect(leaves, 2 / curvature(FIXED[rule]))
    stable = max(rate for rate, left in found if not left)
    assert stable == pytest.approx(2 / curvature(FIXED[rule]), rel=0.05)


def test_kolen_pollack_halves_agree_at_the_rate_of_their_decay():
    random = np.random.default_rng(0)
    ws, bs = ([random.normal(size=shape) / 2 for shape in ((3, 4), (4, 2))] for _ in range(2))
    x, target = random.normal(size=(20, 3)), random.normal(size=(20, 2))
    values = analysis.joint_eigenvalues(
        ws, bs, x, target, rules.KolenPollack(decay=0.3), 0.1, 0.1, weight_decay=0.3
    )
    assert len(values) == 40
    assert np.sum(np.abs(values - 0.97) < 1e-6) >= 20  # one per weight of B, at any point


def test_the_page_of_stability_is_true():
    text = PAGE.read_text().replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 8
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_phase_diagram_is_as_predicted():
    rows = table.read(PAGE.parents[1] / "studies" / "results" / "stability.csv")
    for case in map(stability.named, stability.CASES):
        assert stability.boundary(table.select(rows, **case)) == pytest.approx(1.0, abs=0.1)
    assert stability.table(rows) in PAGE.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["layer", "network"])
def test_the_study_measures_what_is_predicted(setting):
    case = (setting, "activation_alignment", "SGD", 2e-3)
    rows = stability.measure(stability.named(case))
    assert stability.boundary(rows) == pytest.approx(1.0, abs=0.1)
