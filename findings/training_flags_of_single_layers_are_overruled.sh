#!/usr/bin/env bash
# `training=` of one layer in a functional model of Keras.
#
# One would guess: what a layer is called with while a functional model is made stays. Keras' guide
# to transfer learning has `base_model(inputs, training=False)` "so that when we unfreeze the base
# model for fine-tuning, batch norm statistics don't get updated", and `Dropout(0.5)(x,
# training=True)` is how one gets Monte Carlo dropout in `predict`.
# What happens: the flag is kept in the model and its file, and overruled by the model's own flag,
# which `fit`, `evaluate` and `predict` always set. Batch normalization with `training=False` uses
# the statistics of batches in `fit` and moves its averages; dropout with `training=True` drops
# nothing in `predict` and `evaluate`, so that an uncertainty from many predictions is 0. Only
# `model(x)`, without a flag, does as the layers were told, and differs from `model.predict(x)`.
# Nothing warns. `trainable = False` keeps batch normalization still; a subclass that sets the flag
# in its `call` keeps dropout on.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: layers with either flag under `fit`, `predict` and a call; `operation_fn` of
# keras/src/models/functional.py. keras issue 20285 asks about the guide's sentence; of dropout no
# report was found. keras pull request 23364, later than 3.15.1, takes `operation_fn` out.
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
data = np.random.default_rng(0).normal(3.0, 2.0, size=(256, 6)).astype("float32")


def base():
    """A network with batch normalization, as one would take for fine-tuning."""
    return keras.Sequential([keras.Input((6,)), keras.layers.BatchNormalization()])


def moved(layer, freeze=False, **flags):
    """How far `fit` moves the statistics of a layer that is called with these flags."""
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs, **flags)))
    layer.trainable = not freeze
    model.compile("sgd", "mse")
    before = [np.array(v) for v in layer.non_trainable_variables]
    model.fit(data, data[:, :1], verbose=0)
    after = [np.array(v) for v in layer.non_trainable_variables]
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))


for name, make in (("a layer", keras.layers.BatchNormalization), ("a base model", base)):
    told, free = moved(make(), training=False), moved(make())
    print(f"batch normalization as {name}: fit moves averages by {told:.3f} with training=False, "
          f"by {free:.3f} without a flag")
    assert abs(told - free) < 0.05 and told > 0.1, "it has changed"
assert moved(keras.layers.BatchNormalization(), freeze=True) == 0

inputs = keras.Input((6,))
model = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs, training=True))
model.save("model.keras")
for name, network in (("made", model), ("loaded", keras.models.load_model("model.keras"))):
    called = float((np.array(network(data)) == 0).mean())
    predicted = float((network.predict(data, verbose=0) == 0).mean())
    print(f"dropout with training=True, {name}: {called:.0%} are dropped in model(x), "
          f"{predicted:.0%} in model.predict(x)")
    assert 0.4 < called < 0.6
    assert predicted == 0, "it has changed"


class AlwaysDropout(keras.layers.Dropout):
    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


model = keras.Model(inputs, AlwaysDropout(0.5)(inputs))
predicted = float((model.predict(data, verbose=0) == 0).mean())
print(f"a subclass that sets the flag in `call`: {predicted:.0%} in model.predict(x)")
assert 0.4 < predicted < 0.6
PYTHON
echo "As described."
