"""Calibrated rules on single layers: what `Geometry` predicts is what is measured."""

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
from tfcredit.errors import UserError
from tfcredit.rules import CalibratedActivation, CalibratedMirror, Synapse
from tfcredit.rules.calibrated import MAX_SAMPLES, SLACK, geometry

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
    """One layer's W and B under a rule, both drawn at random; errors on taps that meet the noise.

    W and B at other taps act on nothing, forward or backward.
    """

    def __init__(self, name, rule, layer=None):
        self.connection, self.shape, kernel_shape = layer or LAYERS[name]
        self.rule, self.noise = rule, rule.noise(self.connection, self.shape, kernel_shape)
        self.samples, self.geometry = self.noise.samples, self.noise.geometry
        self.met = np.broadcast_to(self.geometry.met, kernel_shape) > 0
        rng = np.random.default_rng(0)
        self.w, self.b = (tf.constant(rng.normal(size=kernel_shape), tf.float32) for _ in range(2))
        self.step, self.update = 0, tf.function(self._update)

    def _update(self, b, step):
        return self.rule.update(
            Synapse(
                connection=self.connection,
                x=tf.zeros((1, *self.shape)),
                y=None,
                kernel=self.w,
                feedback_kernel=b,
                bias=None,
                activation=None,
                seed=3,
                step=step,
            )
        )

    def run(self, steps):
        """The square error relative to |W|^2 after each step."""
        errors = []
        for _ in range(steps):
            self.b = self.update(self.b, tf.constant(self.step))
            self.step += 1
            difference = (self.b - self.w).numpy()[self.met]
            errors.append(np.sum(difference**2) / np.sum(self.w.numpy()[self.met] ** 2))
        return np.array(errors)


@pytest.mark.parametrize(
    "name, angle",
    crossed(LAYERS, [3, 5, 10, 20], quick=lambda name, angle: angle == 10 or name in FIRST),
)
def test_mirror_settles_at_the_predicted_angle(name, angle):
    gain = 0.2
    learner = Learner(name, CalibratedMirror(angle, gain))
    tangent = np.tan(np.radians(angle))
    learner.run(40)
    measured = np.sqrt(learner.run(160).mean())
    predicted = np.sqrt(gain / (2 - gain) * learner.geometry.variance / learner.samples)
    np.testing.assert_allclose(measured, predicted, rtol=0.15)
    assert predicted <= 1.04 * tangent or learner.samples == MAX_SAMPLES
    if 4 < learner.samples < MAX_SAMPLES:  # Rounding is then no more than some 10 %.
        np.testing.assert_allclose(measured, tangent, rtol=0.2)


@pytest.mark.parametrize("rule", [CalibratedMirror(30, 0.05), CalibratedActivation(0.05)], ids=str)
@pytest.mark.parametrize(
    "connection, shape, kernel_shape",
    [
        (ConvConnection(padding="same"), (40, 40, 8), (3, 3, 8, 8)),
        (ConvConnection((2, 2)), (41, 30, 8), (5, 3, 8, 8)),
        (ConvConnection((1, 1), "same", (3, 3)), (40, 40, 8), (3, 3, 8, 8)),
        (ConvConnection(padding="same", data_format="channels_first"), (8, 40, 40), (3, 3, 8, 8)),
        (ConvConnection((1,), ((2, 0),)), (300, 4), (3, 4, 8)),
        (DepthwiseConnection(padding="same"), (40, 40, 8), (3, 3, 8, 4)),
    ],
    ids=["same", "strided", "dilated", "channels first", "1-d", "depthwise"],
)
def test_many_positions_need_a_patch_only(rule, connection, shape, kernel_shape):
    """One sample, on a patch that one pixel less would make too small."""
    noise = rule.noise(connection, shape, kernel_shape)
    assert noise.samples == 1
    assert np.prod(noise.shape) < np.prod(shape) / 4
    assert (noise.geometry.met == 1).all()
    assert rule.samples(noise.geometry) <= 1
    for size in range(1, max(shape)):
        patch = connection.crop(shape, kernel_shape, size / max(shape))
        if np.prod(patch) < np.prod(noise.shape):
            assert rule.samples(geometry(connection, patch, kernel_shape)) > 1
    errors = Learner(None, rule, (connection, shape, kernel_shape)).run(400)
    if isinstance(rule, CalibratedMirror):
        predicted = rule.gain / (2 - rule.gain) * noise.geometry.variance
        np.testing.assert_allclose(np.sqrt(errors[200:].mean()), np.sqrt(predicted), rtol=0.15)
    else:
        assert errors[-1] < 1e-4


@pytest.mark.parametrize("name", LAYERS)
def test_estimate_is_unbiased(name):
    """With gain 1/t B is the mean of t estimates: its error falls as variance / t."""
    learner = Learner(name, CalibratedMirror(20, 1e-6))
    assert learner.samples == 1
    errors = learner.run(400) * np.arange(1, 401) / learner.geometry.variance
    assert errors[-100:].mean() < 1.6, "a bias would grow with the number of draws"
    difference = (learner.b - learner.w).numpy()
    never_met = ~learner.met
    np.testing.assert_allclose(learner.b.numpy()[never_met], 0.0)
    assert np.abs(difference[learner.met].mean()) < 4 * np.sqrt(
        learner.geometry.variance / 400 / learner.met.shape[-1]
    )


@pytest.mark.parametrize("name", LAYERS)
def test_geometry_is_what_many_estimates_have(name):
    """Their mean is W, within the error that `variance` predicts; their mean square error too."""
    connection, shape, kernel_shape = LAYERS[name]
    layer, rng, draws = geometry(connection, shape, kernel_shape), np.random.default_rng(4), 800
    w = tf.constant(rng.choice([-1.0, 1.0], size=kernel_shape))  # of mean square 1 at each tap

    @tf.function
    def estimate(xi):
        return connection.hebbian(xi, connection.op(xi, w), kernel_shape) / layer.counts

    estimates = [estimate(tf.constant(rng.normal(size=(1, *shape)))) for _ in range(draws)]
    errors = (np.stack(estimates) - w.numpy()) * layer.met
    met = np.broadcast_to(layer.met, kernel_shape).mean()
    np.testing.assert_allclose(np.mean(errors**2) / met, layer.variance, rtol=0.06)
    # What a mean of so many has by chance; few channels leave few independent errors in it.
    assert np.mean(errors.mean(0) ** 2) / met < 3 * layer.variance / draws


def test_first_step_is_the_first_estimate():
    """The drawn B is forgotten at once: 1/t is 1 at first."""
    learner = Learner("dense", CalibratedMirror())
    other = Learner("dense", CalibratedMirror())
    other.b = 100.0 * other.b
    learner.run(1), other.run(1)
    np.testing.assert_allclose(learner.b, other.b, atol=1e-4)


@pytest.mark.parametrize(
    "name, gain",
    crossed(LAYERS, [0.05, 0.3, 0.6, 0.9], quick=lambda name, gain: gain == 0.3 or name in FIRST),
)
def test_activation_becomes_w(name, gain):
    learner = Learner(name, CalibratedActivation(gain))
    k, growth = learner.samples, learner.geometry.growth
    own_gain = k / (k + growth)
    assert own_gain >= gain * (1 - SLACK)
    drawn = learner.b.numpy()
    initial = np.sum((learner.b - learner.w).numpy()[learner.met] ** 2)
    initial /= np.sum(learner.w.numpy()[learner.met] ** 2)
    errors = learner.run(int(np.ceil(20 / own_gain)))
    assert errors.max() < 1.5 * initial, "diverges"
    assert np.degrees(np.sqrt(errors[-1])) < 0.1
    # The mean square error falls by the gain in each step, as the class says.
    fallen = np.argmax(errors < 1e-5 * initial)
    rate = np.log(errors[fallen] / initial) / (fallen + 1)
    assert 0.8 < rate / np.log1p(-own_gain) < 1.6
    assert (learner.b.numpy()[~learner.met] == drawn[~learner.met]).all()


@pytest.mark.parametrize("gain", [0.05, 0.9])
def test_worst_direction_shrinks_too(gain):
    """An error at the one tap with the greatest amplification, in a single channel."""
    for name in LAYERS:
        learner = Learner(name, CalibratedActivation(gain))
        taps = np.argmin(np.where(learner.geometry.met > 0, learner.geometry.counts, np.inf))
        error = np.zeros(learner.w.shape, "float32").reshape(-1, *learner.w.shape[-2:])
        error[taps if len(error) > 1 else 0, 0] = 1.0
        error = error.reshape(learner.w.shape)
        learner.b = learner.w + error
        gain_of_layer = learner.samples / (learner.samples + learner.geometry.growth)
        assert learner.run(int(np.ceil(20 / gain_of_layer)))[-1] < 1e-3, name


def test_geometry_of_full_overlap_is_the_formula():
    for name, inputs, positions in [("dense", 30, 1), ("dense rank 3", 12, 4), ("valid", 36, 16)]:
        found = geometry(*LAYERS[name])
        np.testing.assert_allclose(found.variance, (inputs + 1) / positions)
        np.testing.assert_allclose(found.growth, (inputs + 1) / positions)
        assert (found.counts == positions).all() and (found.met == 1).all()


def test_taps_that_never_meet_the_input_are_marked():
    found = geometry(*LAYERS["1x1 map"])
    expected = np.zeros((3, 3, 1, 1))
    expected[1, 1] = 1
    assert (found.met == expected).all() and (found.counts == 1).all()


def test_samples_stay_within_bounds():
    for rule, expected in [
        (CalibratedMirror(0.001, 1.0), MAX_SAMPLES),
        (CalibratedMirror(89, 0.001), 1),
        (CalibratedActivation(0.9999), MAX_SAMPLES),
        (CalibratedActivation(1e-6), 1),
    ]:
        assert rule.noise(*LAYERS["dense"]).samples == expected


def test_replicas_draw_alike_and_steps_differ():
    learner = Learner("same", CalibratedMirror())
    draws = [learner.update(learner.b, tf.constant(step)).numpy() for step in (0, 0, 1)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


@pytest.mark.parametrize("rule", [CalibratedMirror(), CalibratedActivation()])
def test_unknown_input_sizes_are_refused(rule):
    with pytest.raises(UserError, match="full input shape"):
        geometry(ConvConnection(), (None, 6, 4), (3, 3, 4, 8))
    with pytest.raises(UserError, match="full input shape"):
        geometry(DenseConnection(), (None, 4), (4, 8))
