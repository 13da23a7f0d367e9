#!/usr/bin/env bash
# A schedule of learning rates that is given to the optimizer of a network that was trained before.
#
# One would guess: `optimizer.learning_rate = CosineDecay(...)` before a second `fit` sets the rate
# of that training, as a number does, or is refused; what `optimizer.learning_rate` shows is what is
# used.
# What happens: a number is written into a variable that the traced training step reads. A schedule
# takes the place of that variable, and the step still reads what it was traced with: the second
# training goes on with the old rate or schedule, while `optimizer.learning_rate`, which callbacks
# log, shows the new one. After `compile` with the same optimizer the new one is read. A callback
# that sets a schedule changes nothing either.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: steps measured after each setting of an optimizer; the setter `learning_rate` of
# keras/src/optimizers/base_optimizer.py. No report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

print("keras", keras.__version__, "tensorflow", tf.__version__)
x = np.zeros((4, 1), "float32")


def steepness(_, outputs):
    """A loss whose gradient in the bias is 1, so that a step of SGD is the learning rate."""
    return outputs[:, 0]


def trained(rate):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss=steepness)
    return model, step(model)


def step(model):
    """How far one step of `fit` moves the bias."""
    before = float(model.layers[0].bias[0])
    model.fit(x, x, verbose=0)
    return before - float(model.layers[0].bias[0])


def constant(rate):
    return keras.optimizers.schedules.ExponentialDecay(rate, 1000, 1.0)


for title, first, second, read in (
    ("a number, then a schedule", 1.0, constant(0.125), False),
    ("a schedule, then another", constant(1.0), constant(0.125), False),
    ("a number, then another", 1.0, 0.125, True),
):
    model, before = trained(first)
    model.optimizer.learning_rate = second
    after, told = step(model), float(model.optimizer.learning_rate)
    model.compile(model.optimizer, loss=steepness)
    compiled = step(model)
    print(f"{title}: the rate was {before:.3f}, is said to be {told:.3f}, is {after:.3f}; "
          f"once compiled again {compiled:.3f}")
    np.testing.assert_allclose([before, told, compiled], [1.0, 0.125, 0.125], rtol=1e-5)
    np.testing.assert_allclose(after, 0.125 if read else 1.0, rtol=1e-5, err_msg="it has changed")

callback = keras.callbacks.LambdaCallback(
    on_epoch_begin=lambda epoch, logs: setattr(
        model.optimizer, "learning_rate", constant(0.125 if epoch else 1.0)
    )
)
model, _ = trained(constant(1.0))
before = float(model.layers[0].bias[0])
model.fit(x, x, epochs=2, verbose=0, callbacks=[callback])
moved = before - float(model.layers[0].bias[0])
print(f"set by a callback before the second of two epochs: moved by {moved:.3f}, not by 1.125")
np.testing.assert_allclose(moved, 2.0, rtol=1e-5, err_msg="it has changed")
PYTHON
echo "As described."
