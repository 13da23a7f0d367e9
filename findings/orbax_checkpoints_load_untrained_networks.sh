#!/usr/bin/env bash
# Checkpoints of `keras.callbacks.OrbaxCheckpoint`, loaded again.
#
# One would guess: `keras.saving.load_model(directory)` gives the network as it was saved, with
# weights and optimizer, or raises; `load_weights(directory)` does as with a .weights.h5 file.
# What happens: variables are found by their paths, and one that is not found stays as it is,
# without a word. A Sequential model's are under "sequential/" in training and are not after
# loading, a subclassed model's likewise: the loaded network has new random weights, next to the
# optimizer's counter of all steps. `load_weights` into a second network of the same process loads
# nothing either, as its layers are called dense_2 and so on. A functional model is loaded as it
# was. Name the model's layers and load weights into a functional model, or use ModelCheckpoint.
#
# Versions: Keras 3.15.1, orbax-checkpoint 0.12.8, JAX 0.10.2, TensorFlow 2.21.0 (tensorflow-cpu),
# Python 3.11. Date: 2026-12-01.
# Source: kinds of models and optimizers saved, loaded and compared.
# keras.io/guides/orbax_checkpoint makes one guess so ("resume training seamlessly"). keras issue
# 23251 of July 2026 has the case of a Sequential model on JAX; it is open.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0' \
  'orbax-checkpoint==0.12.8' 'jax==0.10.2' 'jaxlib==0.10.2'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import os

import keras
import numpy as np

for name in ("keras", "orbax-checkpoint", "jax", "tensorflow-cpu"):
    print(name, importlib.metadata.version(name), end=" ")
print()
rng = np.random.default_rng(0)
x, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 1))


@keras.saving.register_keras_serializable()
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.hidden, self.top = keras.layers.Dense(8), keras.layers.Dense(1)

    def call(self, inputs):
        return self.top(self.hidden(inputs))


def sequential():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])


def functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(8)(inputs)))


def apart(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


for make in (sequential, Subclassed, functional):
    model = make()
    model.compile("adam", "mse")
    directory = os.path.abspath(make.__name__)
    callback = keras.callbacks.OrbaxCheckpoint(directory, save_on_background=False)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    loaded = keras.saving.load_model(directory)
    second = make()
    second.compile("adam", "mse")
    second(x)  # builds it
    before = [value.copy() for value in second.get_weights()]
    second.load_weights(directory)
    same = all(map(np.array_equal, before, second.get_weights()))
    print(f"{make.__name__}: {model.variables[0].path} is loaded as {loaded.variables[0].path};",
          f"weights are {apart(model, loaded):.3f} apart,",
          f"steps {int(loaded.optimizer.iterations)};",
          f"load_weights into a second network {'changes nothing' if same else 'changes it'}")
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 6
    assert (apart(model, loaded) == 0) if make is functional else (apart(model, loaded) > 0.3)
    assert same, "it has changed"
    model.load_weights(directory)  # the network itself finds its own
    model.save_weights("as.weights.h5")
    second.load_weights("as.weights.h5")
    assert apart(model, second) == 0
PYTHON
echo "As described."
