"""Calibrated rules on single layers: what their formulas predict is what is measured."""

import numpy as np
import pytest
import tensorflow as tf

from tests.crossing import crossed
from tfcredit.connections import (
    ConvConnection,
    DenseConnection,
    DepthwiseConnection,
    EinsumConnection,
    TransposedConnection,
)
from tfcredit.rules import CalibratedActivation, CalibratedMirror, LayerState
from tfcredit.rules.calibrated import MAX_NUMBERS
from tfcredit.rules.state import renewal

# Connection, input, kernel. On small maps some taps meet few positions or, on 1x1, none.
LAYERS = {
    "dense": (DenseConnection(), (30,), (30, 20)),
    "dense rank 3": (DenseConnection(), (4, 12), (12, 20)),
    "same": (ConvConnection(padding="same"), (6, 6, 4), (3, 3, 4, 8)),
    "valid": (ConvConnection(), (6, 6, 4), (3, 3, 4, 8)),
    "strided": (ConvConnection((2, 2), "same"), (6, 6, 4), (3, 3, 4, 8)),
    "dilated": (ConvConnection((1, 1), "same", (2, 2)), (3, 3, 4), (3, 3, 4, 8)),
    "grouped": (ConvConnection(padding="same", groups=2), (5, 5, 4), (3, 3, 2, 8)),
    "one channel": (ConvConnection(padding="same"), (6, 6, 1), (3, 3, 1, 16)),
    "2x2 map": (ConvConnection(padding="same"), (2, 2, 6), (3, 3, 6, 8)),
    "1x1 map": (ConvConnection(padding="same"), (1, 1, 16), (3, 3, 16, 16)),
    "2x2 map, one channel": (ConvConnection(padding="same"), (2, 2, 1), (3, 3, 1, 16)),
    "channels first": (
        ConvConnection(padding="same", data_format="channels_first"),
        (4, 5, 5),
        (3, 3, 4, 8),
    ),
    "1-d": (ConvConnection((2,), ((2, 0),)), (9, 4), (3, 4, 8)),
    "3-d": (ConvConnection((1, 1, 1), "same"), (3, 3, 3, 2), (3, 2, 2, 2, 8)),
    "depthwise": (DepthwiseConnection(padding="same"), (6, 6, 8), (3, 3, 8, 4)),
    "strided depthwise": (DepthwiseConnection((2, 2)), (7, 7, 8), (3, 3, 8, 4)),
    "transposed": (TransposedConnection(ConvConnection((2, 2), "same")), (4, 4, 6), (3, 3, 8, 6)),
    "transposed, sparse": (TransposedConnection(ConvConnection((3, 1))), (3, 4, 6), (2, 3, 8, 6)),
    "dilated transposed": (
        TransposedConnection(ConvConnection((1, 1), "same", (2, 2))),
        (4, 4, 6),
        (3, 3, 8, 6),
    ),
    "heads": (EinsumConnection("abc,cde->abde", 3), (4, 10), (10, 4, 6)),
    "heads to units": (EinsumConnection("abcd,cde->abe", 4), (4, 2, 6), (2, 6, 16)),
    "shared axis": (EinsumConnection("abcd,bde->ace", 4), (2, 3, 6), (2, 6, 16)),
    "kept axis": (EinsumConnection("abcd,bde->abce", 4), (3, 2, 6), (3, 6, 16)),
}
FIRST = ["dense", "same", "1x1 map"]
"""Met with every angle and gain in quick runs; the others with one."""


class Learner:
    """One layer's W and B under a rule, both drawn at random."""

    def __init__(self, layer, rule):
        self.connection, self.shape, kernel_shape = layer
        axes = self.connection.axes(kernel_shape)
        self.rule, self.fan_in, self.field = rule, axes.fan_in, (axes.fan_in, axes.columns)
        self.samples = rule.samples(*self.field)
        rng = np.random.default_rng(0)
        self.w, self.b = (tf.constant(rng.normal(size=kernel_shape), tf.float32) for _ in range(2))
        self.memory = None if rule.memory is None else tf.constant(rule.memory)
        self.step, self.update = 0, tf.function(self._update)

    @property
    def length(self):
        """B's length over that of the mirror's estimate."""
        return 1.0 if self.memory is None else float(self.memory[0])

    def _update(self, b, step, memory):
        return renewal(
            self.rule,
            LayerState(
                connection=self.connection,
                x=tf.zeros((1, *self.shape)),
                y=None,
                kernel=self.w,
                feedback_kernel=b,
                bias=None,
                activation=None,
                seed=3,
                step=step,
                memory=memory,
            ),
            "a test",
        )

    def run(self, steps):
        """The estimate's square error relative to |W|^2 after each step."""
        errors = []
        for _ in range(steps):
            self.b, self.memory = self.update(self.b, tf.constant(self.step), self.memory)
            self.step += 1
            error = tf.reduce_sum((self.b / self.length - self.w) ** 2)
            errors.append(float(error / tf.reduce_sum(self.w**2)))
        return np.array(errors)


@pytest.mark.every(12)
@pytest.mark.parametrize(
    "name, angle",
    crossed(LAYERS, [3, 5, 10, 20], quick=lambda name, angle: angle == 10 or name in FIRST),
)
def test_mirror_settles_at_the_predicted_angle(name, angle):
    gain = 0.5
    learner = Learner(LAYERS[name], CalibratedMirror(angle, gain))
    tangent = np.tan(np.radians(angle))
    learner.run(40)
    measured = np.sqrt(learner.run(160).mean())
    predicted = np.sqrt(gain / (2 - gain) * (learner.fan_in - 1) / learner.samples)
    np.testing.assert_allclose(measured, predicted, rtol=0.15)
    assert predicted <= tangent
    settled = gain / (2 - gain) * (learner.fan_in - 1) / tangent**2
    # Rounding is then no more than some 10 %, and no samples are added to tell the lag.
    if learner.samples > 4 and learner.samples == np.ceil(settled):
        np.testing.assert_allclose(measured, tangent, rtol=0.2)


def test_gain_rises_where_w_runs_away():
    """By 2 % of its length a step, with a gain of 0.01: B would lag by twice the length of W."""
    learner = Learner(LAYERS["dense"], CalibratedMirror(5, 0.01))
    learner.update = learner._update  # W is no constant of a graph.
    learner.run(100)
    step = tf.constant(np.random.default_rng(1).normal(size=learner.w.shape), tf.float32)
    errors = []
    for _ in range(60):
        learner.w += 0.02 * step
        errors += learner.run(1).tolist()
    assert max(errors) < 0.35


def test_b_shortens_while_it_lags_w():
    learner = Learner(LAYERS["dense"], CalibratedMirror(5, 0.01))
    learner.update = learner._update  # W is no constant of a graph.
    learner.run(100)
    assert learner.length == 1.0
    step = tf.constant(np.random.default_rng(1).normal(size=learner.w.shape), tf.float32)
    lengths, errors = [], []
    for _ in range(60):
        learner.w += 0.02 * step
        errors += learner.run(1).tolist()
        lengths.append(learner.length)
    allowed = np.tan(np.radians(5)) ** 2
    predicted = (allowed / np.mean(errors[10:30])) ** 2
    assert predicted < 0.5
    np.testing.assert_allclose(np.mean(lengths[10:30]), predicted, rtol=0.5)
    # Where W rests B catches up, and gets its length back.
    learner.run(100)
    assert learner.length == 1.0
    measured = tf.norm(learner.b) / tf.norm(learner.w)
    np.testing.assert_allclose(measured, learner.length, rtol=0.02)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_w_that_is_replaced_leaves_b_finite(scale):
    learner = Learner(LAYERS["dense"], CalibratedMirror())
    learner.update = learner._update
    learner.run(20)
    learner.w = scale * learner.w
    assert np.isfinite(learner.run(400)).all()
    assert learner.run(1)[0] < 0.05 and learner.length > 0.5


@pytest.mark.every(3)
@pytest.mark.parametrize("name", LAYERS)
def test_estimate_is_unbiased(name):
    """With gain 1/t B is the mean of t estimates: its error falls as (fan_in - 1) / t."""
    learner = Learner(LAYERS[name], CalibratedMirror(89, 1e-6))
    variance = learner.fan_in - 1
    assert learner.samples == 1
    errors = learner.run(400) * np.arange(1, 401) / variance
    assert 0.5 < errors[-100:].mean() < 1.6, "a bias would grow with the number of draws"
    difference = (learner.b - learner.w).numpy()
    assert np.abs(difference.mean()) < 4 * np.sqrt(variance / 400 / learner.w.shape[-1])


def test_a_fan_in_of_one_needs_no_average():
    """The sign of the noise squares to 1, so that one sample tells the weight."""
    layer = ConvConnection(), (5, 5, 1), (1, 1, 1, 8)
    for rule in (CalibratedMirror(), CalibratedActivation()):
        errors = Learner(layer, rule).run(40)
        assert errors[0] < 1e-11 and errors.max() < 1e-11  # rounding of a mean


def test_first_step_is_the_first_estimate():
    """The drawn B is forgotten at once: 1/t is 1 at first."""
    learner = Learner(LAYERS["dense"], CalibratedMirror())
    other = Learner(LAYERS["dense"], CalibratedMirror())
    other.b = 100.0 * other.b
    learner.run(1), other.run(1)
    np.testing.assert_allclose(learner.b, other.b, atol=1e-4)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "name, gain",
    crossed(LAYERS, [0.05, 0.3, 0.6, 0.9], quick=lambda name, gain: gain == 0.3 or name in FIRST),
)
def test_activation_becomes_w(name, gain):
    learner = Learner(LAYERS[name], CalibratedActivation(gain))
    own_gain = learner.rule.gain_of(*learner.field)
    assert own_gain >= gain
    initial = float(tf.reduce_sum((learner.b - learner.w) ** 2) / tf.reduce_sum(learner.w**2))
    errors = learner.run(int(np.ceil(20 / own_gain)))
    assert errors.max() < 1.5 * initial, "diverges"
    assert np.degrees(np.sqrt(errors[-1])) < 0.1
    # The mean square error falls by the gain in each step, as the class says. (400 draws for the
    # least fan-in, 6: this ratio is 1.14 +- 0.15, 0.74 at least.)
    fallen = np.argmax(errors < 1e-5 * initial)
    rate = np.log(errors[fallen] / initial) / (fallen + 1)
    assert 0.7 < rate / np.log1p(-own_gain) < 1.6


@pytest.mark.every(5)
@pytest.mark.parametrize("gain", [0.05, 0.9])
@pytest.mark.parametrize("name", LAYERS)
def test_worst_direction_shrinks_too(name, gain):
    """Errors at few weights, or alike at all, whose products windows that overlap add up."""
    for few in (True, False):
        learner = Learner(LAYERS[name], CalibratedActivation(gain))
        error = np.ones(learner.w.shape, "float32")
        if few:
            error.ravel()[1:] = 0.0
        learner.b = learner.w + error
        steps = int(np.ceil(20 / learner.rule.gain_of(*learner.field)))
        assert learner.run(steps)[-1] < 1e-3 * np.sum(error**2) / np.sum(learner.w**2)


@pytest.mark.parametrize(
    "rule, field, expected",
    [
        (CalibratedMirror(), (4608, 512), 3025),  # 0.005025 * 4607 / 0.007654
        (CalibratedMirror(), (256, 10), 2696),  # 4 sqrt(1 + 25.6) / 0.007654
        (CalibratedActivation(), (4608, 512), 243),  # 4607 / 19
        (CalibratedMirror(0.001, 1.0), (30, 30), MAX_NUMBERS // 30),
        (CalibratedActivation(0.999), (2**18, 1), 2**9),
        (CalibratedMirror(89, 0.001), (30, 30), 1),
        (CalibratedActivation(1e-6), (30, 30), 1),
        (CalibratedActivation(1e-6), (2 * MAX_NUMBERS, 1), 1),
    ],
)
def test_samples_are_what_the_formula_needs_within_bounds(rule, field, expected):
    assert rule.samples(*field) == expected


def test_replicas_draw_alike_and_steps_differ():
    learner = Learner(LAYERS["same"], CalibratedMirror())
    draws = [
        learner.update(learner.b, tf.constant(step), learner.memory)[0].numpy()
        for step in (0, 0, 1)
    ]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
