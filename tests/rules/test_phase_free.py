"""The calibrated mirror on noise in the activity: its angle, what it follows, what it leaves."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, layers, rules
from tfcredit.errors import UserError
from tfcredit.rules.geometry import geometry

CASES = {
    "dense": (lambda **kw: layers.Dense(24, **kw), (30,)),
    "conv": (lambda **kw: layers.Conv2D(12, 3, padding="same", **kw), (5, 5, 4)),
    "strided": (lambda **kw: layers.Conv2D(12, 3, 2, **kw), (9, 9, 4)),
}


def built(case, rule, **options):
    make, shape = CASES[case]
    keras.utils.set_random_seed(0)
    layer = make(rule=rule, seed=1, **options)
    layer.build((None, *shape))
    return layer, shape


def angle_after(layer, batches):
    """The angle after training calls whose error is zero, so that W stays."""
    call = tf.function(lambda x: layer(x, training=True), reduce_retracing=True)
    for x in batches:
        call(tf.constant(x, tf.float32))
    return analysis.angle(layer.kernel, layer.feedback_kernel)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gain, angle", [(0.02, 8.0), (0.1, 30.0)])
def test_on_white_activity_the_angle_is_that_of_the_formula(case, gain, angle):
    rule = rules.PhaseFreeMirror(angle=angle, gain=gain)
    layer, shape = built(case, rule)
    n, rng = 16, np.random.default_rng(0)
    variance = geometry(layer.connection, shape, layer.kernel.shape.as_list()).variance
    fraction = float(rule.fraction(variance, n))
    assert 0.05 <= fraction <= 0.5
    one = variance / n * (1 + 1 / fraction**2)
    # The fraction has a largest value; then the gain is less.
    gain = min(gain, 2 / (one / math.tan(math.radians(angle)) ** 2 + 1))
    expected = math.degrees(math.atan(math.sqrt(gain / (2 - gain) * one)))
    steps = int(5 / gain)
    batches = (rng.normal(size=(n, *shape)) for _ in range(min(steps, 3000)))
    assert angle_after(layer, batches) == pytest.approx(expected, rel=0.15)


def test_on_correlated_activity_the_angle_is_the_one_asked_for():
    """Two directions make all of the activity; its cost is measured."""
    layer, shape = built("dense", "phase_free_mirror(angle=15.0)")
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(2, *shape)) + 1.0
    batches = (rng.normal(size=(64, 2)) @ mix for _ in range(1500))
    assert angle_after(layer, batches) == pytest.approx(15.0, rel=0.15)


def test_b_starts_no_worse_than_it_was():
    """A first estimate that is all noise does not replace B."""
    layer, shape = built("dense", "phase_free_mirror")
    before = layer.feedback_kernel.numpy()
    layer(tf.random.stateless_normal((4, *shape), [0, 1]), training=True)
    after = layer.feedback_kernel.numpy()
    assert 0 < np.abs(after - before).max()
    assert np.linalg.norm(after) < 1.5 * np.linalg.norm(before)


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD(0.1, 0.9), keras.optimizers.Adam(0.01)])
def test_b_follows_w_without_lag(optimizer):
    """With next to no gain the difference of the kernels stays while W moves."""
    layer, shape = built("dense", "phase_free_mirror(gain=1e-6)")
    model = keras.Sequential([keras.Input(shape), layer])
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, *shape)), rng.normal(size=(8, 24))
    model.fit(x, y, verbose=0)  # the first step renews B by an estimate of worth 1 / t
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    layer._step.assign(10**9)
    model.fit(x, y, epochs=20, verbose=0)
    moved = layer.kernel.numpy() - w
    assert np.abs(moved).max() > 0.05
    np.testing.assert_allclose(layer.feedback_kernel.numpy() - b, moved, atol=1e-3)


def test_noise_is_in_the_activity_of_training_calls_only():
    layer, shape = built("conv", "phase_free_mirror", use_bias=False)
    x = tf.random.stateless_normal((8, *shape), [0, 1])
    clean = layer(x, training=False)
    np.testing.assert_allclose(clean, layer.connection.op(x, layer.kernel), atol=1e-5)
    state = layer.layer_state(x, perturbed=True)
    with tf.GradientTape() as tape:
        noisy = layer(x, training=True)
        loss = tf.reduce_sum(noisy**2)
    p = state.perturbation
    np.testing.assert_allclose(state.x, x + p, atol=1e-6)
    np.testing.assert_allclose(noisy, layer.connection.op(x + p, layer.kernel), atol=1e-5)
    variance = geometry(layer.connection, shape, layer.kernel.shape.as_list()).variance
    fraction = float(layer.rule.fraction(variance, 8))
    assert np.std(p) / np.std(x - np.mean(x, 0)) == pytest.approx(fraction, rel=0.1)
    dw = tape.gradient(loss, layer.kernel.value)
    expected = layer.connection.hebbian(x + p, 2 * noisy, dw.shape)
    np.testing.assert_allclose(dw, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 5])
def test_activity_that_says_nothing_leaves_b(batch):
    layer, shape = built("dense", "phase_free_mirror")
    before = layer.feedback_kernel.numpy()
    layer(tf.ones((batch, *shape)), training=True)
    np.testing.assert_array_equal(layer.feedback_kernel, before)


@pytest.mark.parametrize("arguments", ["angle=0.0", "angle=90.0", "gain=0.0", "gain=1.5"])
def test_values_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match="must be a (positive )?finite number"):
        rules.get(f"phase_free_mirror({arguments})")


@pytest.mark.slow
@pytest.mark.multi_device
def test_replicas_keep_one_feedback_kernel(two_cpus):
    """Each has noise of its own; B is renewed by the mean of both."""
    printed = two_cpus("""
import keras, numpy as np, tensorflow as tf
import tfcredit
from tfcredit import analysis

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.utils.set_random_seed(0)
with strategy.scope():
    layer = tfcredit.layers.Dense(8, rule="phase_free_mirror(angle=10.0)", seed=1)
    model = keras.Sequential([keras.Input((20,)), layer, keras.layers.Dense(3)])
    model.compile("adam", "mse")
rng = np.random.default_rng(0)
x = rng.normal(size=(4000, 20)).astype("float32")
y = x[:, :3]
model.fit(x, y, batch_size=40, epochs=2, verbose=0)
copies = strategy.experimental_local_results(layer.feedback_kernel.value)
print(np.abs(copies[0].numpy() - copies[1].numpy()).max())
print(analysis.angle(layer.kernel, layer.feedback_kernel))
""")
    difference, angle = (float(line) for line in printed.splitlines()[-2:])
    assert difference == 0.0
    assert angle < 15.0
