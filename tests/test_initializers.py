"""Initial feedback kernels: at an angle, or independent of the forward kernel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import layers
from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle, feedback_initializer
from tfcredit.seeding import default_seed, derive


def angle(a, b):
    a, b = np.float64(a).ravel(), np.float64(b).ravel()
    return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


def built(make=layers.Dense, units=8, **options):
    made = make(units, rule="feedback_alignment", **options)
    made.build((None, 6, 6, 5))
    return made


@pytest.mark.parametrize("degrees", [0, 1, 30, 90, 135, 180])
@pytest.mark.parametrize(
    "make", [layers.Dense, lambda units, **kw: layers.Conv2D(units, 3, **kw)], ids=["dense", "conv"]
)
def test_at_angle_gives_the_angle_and_the_norm(make, degrees):
    made = built(make, feedback_initializer=AtAngle(degrees, seed=2))
    w, b = made.kernel.numpy(), made.feedback_kernel.numpy()
    np.testing.assert_allclose(angle(w, b), degrees, atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(b), np.linalg.norm(w), rtol=1e-5)


def test_at_angle_is_seeded_and_serialisable():
    kernel = tf.random.stateless_normal((7, 3), [1, 2])
    first, other = AtAngle(40, seed=2), AtAngle(40, seed=3)
    again = keras.initializers.deserialize(keras.initializers.serialize(first))
    values = [each((7, 3), None, kernel=kernel).numpy() for each in (first, again, other)]
    assert (values[0] == values[1]).all() and angle(values[0], values[2]) > 10
    assert AtAngle(40).seed != AtAngle(40).seed


def test_at_angle_of_a_zero_kernel_is_zero():
    made = built(kernel_initializer="zeros", feedback_initializer=AtAngle(30))
    assert not made.feedback_kernel.numpy().any()


@pytest.mark.parametrize("degrees", [-1, 181, float("nan")])
def test_angles_out_of_range_are_refused(degrees):
    with pytest.raises(UserError, match="from 0 to 180"):
        AtAngle(degrees)


def test_at_angle_is_refused_as_kernel_initializer():
    with pytest.raises(UserError, match="feedback_initializer"):
        built(kernel_initializer=AtAngle(30), feedback_initializer="he_normal")


@pytest.mark.parametrize("seed", [None, 7])
def test_one_instance_for_both_kernels_is_refused(seed):
    initializer = keras.initializers.HeNormal(seed)
    with pytest.raises(UserError, match="seed of its own"):
        layers.Dense(
            3,
            rule="symmetric_alignment",
            kernel_initializer=initializer,
            feedback_initializer=initializer,
        )


def test_equal_seeds_are_refused():
    one, other = keras.initializers.HeNormal(7), keras.initializers.HeNormal(7)
    with pytest.raises(UserError, match="seed of its own"):
        layers.Dense(3, rule="usf", kernel_initializer=one, feedback_initializer=other)


def ones(shape, dtype=None):
    return tf.ones(shape, dtype)


@pytest.mark.parametrize(
    "name, pair",
    {
        "default": ("glorot_uniform", None),
        "one string twice": ("glorot_uniform", "glorot_uniform"),
        "string and instance": ("he_normal", keras.initializers.HeNormal()),
        "seeded and string": (keras.initializers.HeNormal(7), "he_normal"),
        "two seeds": (keras.initializers.HeNormal(7), keras.initializers.HeNormal(8)),
        "orthogonal": ("orthogonal", "orthogonal"),
        "not random": ("ones", None),
        "function": (ones, None),
        "function and string": (ones, "glorot_uniform"),
    }.items(),
)
def test_kernels_are_independent(name, pair):
    kernel, feedback = pair
    made = built(
        units=200, kernel_initializer=kernel, feedback_initializer=feedback, use_bias=False
    )
    assert abs(angle(made.kernel, made.feedback_kernel) - 90) < 8


def test_default_has_the_distribution_of_the_forward_kernel():
    made = feedback_initializer(None, keras.initializers.RandomNormal(2.0, 0.5, seed=1), seed=4)
    values = made((100, 100)).numpy()
    np.testing.assert_allclose([values.mean(), values.std()], [2.0, 0.5], rtol=0.03)
    constant = feedback_initializer(None, keras.initializers.Ones(), seed=4)
    assert isinstance(constant, keras.initializers.GlorotUniform)


def test_seeds_belong_to_names():
    seeds = [derive(1, "a", "b"), derive(1, "a"), derive(2, "a", "b"), derive(1, "ab")]
    assert len(set(seeds)) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    assert derive(1, "conv", 2) == derive(1, "conv", 2)
    keras.utils.set_random_seed(3)
    first = default_seed()
    keras.utils.set_random_seed(3)
    assert default_seed() == first != default_seed()
