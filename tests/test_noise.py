"""The noise of a layer: its distribution, and a function of (seed, step) everywhere."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.rules.test_alignment import state
from tfcredit import noise as random_numbers
from tfcredit.errors import UserError


def draw(step=0, seed=5, distribution="normal", shape=(99, 101), **options):
    given = dataclasses.replace(state(step=step), seed=seed)
    return tf.function(
        lambda: given.noise(shape, tf.float32, distribution), autograph=False, **options
    )().numpy()


@pytest.mark.parametrize("distribution", ["normal", "uniform", "sign"])
def test_moments(distribution):
    noise = draw(distribution=distribution)
    fourth = {"normal": 3.0, "uniform": 9 / 5, "sign": 1.0}[distribution]
    assert noise.shape == (99, 101) and np.isfinite(noise).all()
    for power, expected, spread in [(1, 0, 0.04), (2, 1, 0.05), (3, 0, 0.15), (4, fourth, 0.4)]:
        assert abs((noise**power).mean() - expected) < spread
    flat = noise.ravel()
    for lag in (1, 2, 101, flat.size // 2):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 0.05
    if distribution == "sign":
        assert set(flat) == {-1.0, 1.0}
    elif distribution == "uniform":
        assert np.abs(noise).max() <= 3**0.5
    else:
        assert np.abs(noise).max() > 3.3
        assert abs((np.abs(noise) < 1).mean() - 0.6827) < 0.02


@pytest.mark.parametrize("distribution", ["normal", "uniform", "sign"])
def test_seed_and_step_decide(distribution):
    first = draw(0, 5, distribution)
    assert (first == draw(0, 5, distribution)).all()
    for other in (draw(1, 5, distribution), draw(0, 6, distribution), draw(5, 0, distribution)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("distribution", ["normal", "uniform", "sign"])
def test_graph_eager_and_xla_agree(distribution):
    expected = state(step=0).noise((99, 101), tf.float32, distribution).numpy()
    assert (draw(distribution=distribution) == expected).all()
    compiled = draw(distribution=distribution, jit_compile=True)
    np.testing.assert_allclose(compiled, expected, rtol=0, atol=5e-6)


def test_unknown_distributions_are_refused():
    with pytest.raises(UserError, match="'cauchy' is unknown: give one of normal, uniform, sign"):
        draw(distribution="cauchy")


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1, 3)])
def test_odd_counts_and_shapes_known_at_run_time(shape):
    assert draw(shape=shape).shape == shape
    given = state(step=0)
    noise = tf.function(lambda like: given.noise(tf.shape(like), tf.float64))
    assert noise(tf.zeros(shape)).shape == shape


@pytest.mark.parametrize("name", ["_normal", "_uniform", "_signs"])
def test_no_bits_give_a_number_that_is_not_finite(name, monkeypatch):
    """VGG16's 138 million weights met a normal number that was infinite: log(0)."""
    ends = tf.constant([-(2**31), -(2**31) + 1, -(2**31) + 64, -1, 0, 2**31 - 1], tf.int32)
    monkeypatch.setattr(random_numbers, "_bits", lambda shape, seed: tf.repeat(ends, 6)[: shape[0]])
    numbers = getattr(random_numbers, name)(tf.constant(24), tf.constant([0, 0])).numpy()
    assert numbers.shape == (24,) and np.isfinite(numbers).all()
    assert np.abs(numbers).max() < 7
