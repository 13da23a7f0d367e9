"""LARS against its algorithm, written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, layers, optimizers
from tfcredit.errors import UserError
from tfcredit.optimizers.lars import LARS

RANDOM = np.random.default_rng(0)
START, GRADIENTS = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(6, 3, 4))


def reference(start, gradients, rate, momentum):
    """Algorithm 1 of You et al. 2017, without weight decay."""
    w, v = start.astype("float64"), 0.0
    for g in gradients:
        lengths = np.linalg.norm(w), np.linalg.norm(g)
        step = rate * (lengths[0] / lengths[1] if min(lengths) > 0 else 1.0) * g
        v = momentum * v + step
        w = w - v
    return w


def after(optimizer, start, gradients, jit=False):
    variable = keras.Variable(start.astype("float32"))
    optimizer.build([variable])
    step = tf.function(lambda g: optimizer.apply([g], [variable]), jit_compile=jit)
    for gradient in gradients.astype("float32"):
        step(tf.constant(gradient))
    return variable.numpy()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e15])
def test_steps(momentum, scale):
    found = after(LARS(0.1, momentum), START, GRADIENTS * scale)
    expected = reference(START, GRADIENTS, 0.1, momentum)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_compiled_by_xla():
    found = after(LARS(0.1), START, GRADIENTS, jit=True)
    np.testing.assert_allclose(found, after(LARS(0.1), START, GRADIENTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", [START, 0.0 * START])
def test_zeros_have_no_direction(start):
    zeros = np.concatenate([0.0 * GRADIENTS[:2], GRADIENTS[2:]])
    found = after(LARS(0.1), start, zeros)
    np.testing.assert_allclose(found, reference(start, zeros, 0.1, 0.9), atol=1e-4)
    assert np.isfinite(found).all() and np.any(found != start)


def test_a_vector_takes_its_gradient_as_it_is():
    found = after(LARS(0.1, momentum=0.0), 0.0 * START[0], GRADIENTS[:, 0])
    np.testing.assert_allclose(found, -0.1 * GRADIENTS[:, 0].sum(0), rtol=1e-5)


def test_rows_of_one_place_are_added_up():
    places, rows = tf.constant([2, 0, 2]), tf.constant(GRADIENTS[0], "float32")
    whole = tf.convert_to_tensor(tf.IndexedSlices(rows, places, tf.constant([3, 4])))
    found = []
    for gradient in (whole, tf.IndexedSlices(rows, places, tf.constant([3, 4]))):
        variable, optimizer = keras.Variable(START.astype("float32")), LARS(0.1)
        optimizer.build([variable])
        optimizer.apply([gradient], [variable])
        found.append(variable.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert np.linalg.norm(found[0] - START) == pytest.approx(0.1 * np.linalg.norm(START), rel=1e-4)


@pytest.mark.parametrize("wrapped", ["loss scale", "partitioned"])
def test_inside_of_other_optimizers(wrapped):
    if wrapped == "loss scale":
        outer = keras.optimizers.LossScaleOptimizer(LARS(0.1), initial_scale=8.0)
        found = after(outer, START, 8 * GRADIENTS)
    else:
        found = after(optimizers.PartitionedOptimizer(LARS(0.1), "adam"), START, GRADIENTS)
    np.testing.assert_allclose(found, reference(START, GRADIENTS, 0.1, 0.9), rtol=1e-4, atol=1e-5)


def test_it_is_no_sgd_to_those_who_ask():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, rule="activation_alignment")])
    with pytest.raises(UserError, match="'lars' is not linear in gradients"):
        analysis.safe_rates(model, START.astype("float32"), LARS())


def test_it_is_one_of_the_names_and_keeps_one_tensor_at_most():
    made = optimizers.get("lars", 0.25, clipnorm=1.0)
    assert isinstance(made, LARS) and made.momentum == 0.9
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert type(again) is LARS and again.get_config() == made.get_config()
    for momentum, slots in ((0.9, 1), (0.0, 0)):
        optimizer = LARS(momentum=momentum)
        optimizer.build([keras.Variable(START)])
        assert sum(variable.shape == START.shape for variable in optimizer.variables) == slots
