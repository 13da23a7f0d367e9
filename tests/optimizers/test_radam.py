"""RAdam against its algorithm, written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import optimizers
from tfcredit.errors import UserError
from tfcredit.optimizers.radam import RAdam


def reference(start, gradients, rate, beta_1, beta_2):
    """Algorithm 2 of Liu et al. 2020."""
    w, m, v, largest = start.astype("float64"), 0.0, 0.0, 2 / (1 - beta_2) - 1
    for t, g in enumerate(gradients, 1):
        v = beta_2 * v + (1 - beta_2) * g**2
        m = beta_1 * m + (1 - beta_1) * g
        rho = largest - 2 * t * beta_2**t / (1 - beta_2**t)
        step = m / (1 - beta_1**t)
        if rho > 4:
            r = (rho - 4) * (rho - 2) * largest / ((largest - 4) * (largest - 2) * rho)
            step = np.sqrt(r) * step * np.sqrt((1 - beta_2**t) / v)
        w = w - rate * step
    return w


@pytest.mark.parametrize("steps", [1, 4, 5, 40])
@pytest.mark.parametrize("beta_2", [0.999, 0.9])
def test_steps(steps, beta_2):
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(3, 4)), random.normal(size=(steps, 3, 4))
    variable = keras.Variable(start.astype("float32"))
    optimizer = RAdam(0.1, beta_2=beta_2)
    optimizer.build([variable])
    for gradient in gradients.astype("float32"):
        optimizer.apply([gradient], [variable])
    expected = reference(start, gradients, 0.1, 0.9, beta_2)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_it_is_one_of_the_names():
    made = optimizers.get("radam", 0.25, beta_1=0.8, clipnorm=1.0)
    assert isinstance(made, RAdam) and made.beta_1 == 0.8
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert type(again) is RAdam and again.get_config() == made.get_config()
    with pytest.raises(UserError, match="amsgrad=True is not defined for RAdam"):
        optimizers.get("radam", 0.1, amsgrad=True)


def test_repeated_rows_are_added_up():
    """Keras' own Adam (3.15) squares the shares of one row one by one."""
    rows = tf.IndexedSlices(tf.constant([[1.0], [2.0], [3.0]]), tf.constant([0, 0, 1]), [2, 1])
    found = []
    for gradient in (rows, tf.convert_to_tensor(rows)):
        variable, optimizer = keras.Variable([[1.0], [1.0]]), RAdam(0.1)
        for _ in range(8):
            optimizer.apply([gradient], [variable])
        found.append(np.array(variable))
    np.testing.assert_array_equal(*found)
