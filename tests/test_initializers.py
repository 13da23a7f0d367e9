import keras
import numpy as np
import pytest

from tfcredit.analysis import angle
from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle, feedback_initializer
from tfcredit.layers import Dense

Glorot, Normal = keras.initializers.GlorotUniform, keras.initializers.RandomNormal


def kernels(**arguments):
    layer = Dense(40, rule="feedback_alignment", seed=3, **arguments)
    layer.build((None, 50))
    return np.array(layer.kernel), np.array(layer.feedback_kernel)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"kernel_initializer": Normal(stddev=0.05, seed=3)},
        {"kernel_initializer": Glorot(seed=3), "feedback_initializer": Glorot(seed=4)},
        {"kernel_initializer": Glorot(seed=3), "feedback_initializer": "glorot_uniform"},
        {"kernel_initializer": "zeros"},
    ],
)
def test_the_feedback_kernel_is_independent_of_the_forward_kernel(arguments):
    w, b = kernels(**arguments)
    assert b.std() > 0 and not np.array_equal(w, b)
    assert not w.any() or abs(angle(w, b) - 90) < 5  # 2,000 numbers: 4 standard deviations


def test_the_default_is_the_distribution_of_the_forward_kernel():
    w, b = kernels(kernel_initializer=Normal(stddev=0.05))
    assert b.std() == pytest.approx(w.std(), rel=0.1)
    assert np.abs(b).max() > 0.12  # no uniform of this deviation reaches it


same = Glorot(seed=1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_initializer": same, "feedback_initializer": same},
        {"kernel_initializer": Glorot(seed=1), "feedback_initializer": Glorot(seed=1)},
        {"kernel_initializer": Normal(seed=2), "feedback_initializer": Normal(seed=2)},
    ],
    ids=["one instance", "equal seeds", "equal normals"],
)
def test_initializers_that_make_both_kernels_equal_are_refused(arguments):
    with pytest.raises(UserError, match="would be equal: give it a seed of its own, leave it out"):
        kernels(**arguments)


def test_one_instance_without_a_seed_is_refused_too():
    # Keras draws a seed when the initializer is made, so each call gives the same values.
    instance = Glorot()
    with pytest.raises(UserError, match="would be equal"):
        feedback_initializer(instance, instance, seed=0)


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180])
def test_at_angle_stands_at_the_angle_with_the_norm(degrees):
    w, b = kernels(feedback_initializer=AtAngle(degrees, seed=5))
    assert angle(w, b) == pytest.approx(degrees, abs=0.05)
    assert np.linalg.norm(b) == pytest.approx(np.linalg.norm(w), rel=1e-4)


@pytest.mark.parametrize("degrees", [-1, 180.5, float("nan")])
def test_no_such_angle(degrees):
    with pytest.raises(UserError, match=f"degrees={degrees}.*from 0 to 180"):
        AtAngle(degrees)


def test_at_angle_needs_the_forward_kernel():
    with pytest.raises(UserError, match="needs the forward kernel"):
        kernels(kernel_initializer=AtAngle(30))


def test_at_angle_of_a_zero_kernel_is_finite():
    _, b = kernels(kernel_initializer="zeros", feedback_initializer=AtAngle(30))
    assert np.isfinite(b).all()


def test_at_angle_survives_its_config():
    first = AtAngle(30, seed=5)
    again = keras.initializers.deserialize(keras.initializers.serialize(first))
    assert again.get_config() == first.get_config() == {"degrees": 30.0, "seed": 5}
    assert AtAngle(30).seed != AtAngle(30).seed
