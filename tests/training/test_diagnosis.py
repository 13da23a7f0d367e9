"""Where a step went wrong, in networks of the user's own."""

import types

import keras
import numpy as np
import pytest

from tfcredit.training.diagnosis import diagnose

L = keras.layers


def nested():
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), L.Rescaling(3e38, name="scale")], name="inner")
    return keras.Model(inputs, L.Dense(2, name="top")(inner(inputs)))


def called_twice():
    inputs = keras.Input((4,))
    scale = L.Rescaling(1e30, name="scale")
    return keras.Model(inputs, L.Dense(2, name="top")(scale(scale(inputs))))


def several_outputs():
    inputs = keras.Input((4, 1))
    h, *_ = L.LSTM(3, return_state=True, name="lstm")(inputs)
    for name in ("low", "high"):
        h = L.Rescaling(3e38, name=name)(h)
    return keras.Model(inputs, L.Dense(2, name="top")(h))


@pytest.mark.parametrize(
    "make, shape, layer",
    [(nested, (4,), "inner"), (called_twice, (4,), "scale"), (several_outputs, (4, 1), "high")],
)
def test_the_layer_whose_output_is_not_finite_is_named(make, shape, layer):
    keras.utils.set_random_seed(0)
    images = np.full((2, *shape), 2.0, "float32")
    trainer = types.SimpleNamespace(network=make())
    told = diagnose(trainer, [(images, np.zeros(2, "int32"))])
    assert told == f"the output of layer {layer!r} is not finite"
