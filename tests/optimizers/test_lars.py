"""LARS against its algorithm, written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import optimizers
from tfcredit.optimizers.lars import LARS

RANDOM = np.random.default_rng(0)
START, GRADIENTS = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(6, 3, 4))


def reference(start, gradients, rate, momentum, nesterov):
    """Algorithm 1 of You et al. 2017, without weight decay."""
    w, v = start.astype("float64"), 0.0
    for g in gradients:
        lengths = np.linalg.norm(w), np.linalg.norm(g)
        step = rate * (lengths[0] / lengths[1] if min(lengths) > 0 else 1.0) * g
        v = momentum * v + step
        w = w - (momentum * v + step if nesterov else v)
    return w


def after(optimizer, start, gradients, jit=False):
    variable = keras.Variable(start.astype("float32"))
    optimizer.build([variable])
    step = tf.function(lambda g: optimizer.apply([g], [variable]), jit_compile=jit)
    for gradient in gradients.astype("float32"):
        step(tf.constant(gradient))
    return variable.numpy()


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.5, True)])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_steps(momentum, nesterov, scale):
    found = after(LARS(0.1, momentum, nesterov), START, GRADIENTS * scale)
    expected = reference(START, GRADIENTS, 0.1, momentum, nesterov)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_compiled_by_xla():
    found = after(LARS(0.1), START, GRADIENTS, jit=True)
    np.testing.assert_allclose(found, after(LARS(0.1), START, GRADIENTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", [START, 0.0 * START])
def test_zeros_have_no_direction(start):
    zeros = np.concatenate([0.0 * GRADIENTS[:2], GRADIENTS[2:]])
    found = after(LARS(0.1), start, zeros)
    np.testing.assert_allclose(found, reference(start, zeros, 0.1, 0.9, False), atol=1e-4)
    assert np.isfinite(found).all() and np.any(found != start)


def test_it_is_one_of_the_names_and_keeps_one_tensor_at_most():
    made = optimizers.get("lars", 0.25, clipnorm=1.0)
    assert isinstance(made, LARS) and made.momentum == 0.9
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert type(again) is LARS and again.get_config() == made.get_config()
    for momentum, slots in ((0.9, 1), (0.0, 0)):
        optimizer = LARS(momentum=momentum)
        optimizer.build([keras.Variable(START)])
        assert sum(variable.shape == START.shape for variable in optimizer.variables) == slots
