#!/usr/bin/env bash
# Keras' RematScope around a layer that is told whether it is trained.
#
# One would guess: a layer that is made under `keras.RematScope("full")` computes its activity again
# in the backward pass, in eager mode and in graphs alike, whatever arguments it is called with.
# What happens: positional tensors alone are fine. A layer whose `call` takes `training` gets it from
# `fit` as a keyword, and TensorFlow's recompute_grad refuses keywords in graphs: `fit` ends in a
# ValueError. With `run_eagerly=True` the same network trains.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-28.
# Source: seen while layers in recomputed blocks were made to learn; no report of it was looked for.
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
x = np.ones((8, 4), "float32")


class Scaled(keras.layers.Layer):
    """Half its input where it is not trained."""

    def call(self, inputs, training=None):
        return inputs if training else 0.5 * inputs


def outcome(layer_class, eager):
    """What `fit` ends in, for a network with such a layer between two dense ones."""
    with keras.RematScope("full"):
        layer = layer_class()
    dense = [keras.layers.Dense(4), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), dense[0], layer, dense[1]])
    model.compile("sgd", "mse", run_eagerly=eager, jit_compile=False)
    try:
        model.fit(x, x[:, :1], verbose=0)
    except ValueError as problem:
        lines = [line.strip() for line in str(problem).splitlines()]
        return "ValueError: " + next(line for line in lines if "custom_gradient" in line)
    return "trains"


found = {}
for layer_class in (keras.layers.ReLU, Scaled):
    for eager in (False, True):
        key = layer_class.__name__, "eager" if eager else "graph"
        found[key] = outcome(layer_class, eager)
        print(*key, "->", found[key])
assert found["ReLU", "graph"] == found["ReLU", "eager"] == found["Scaled", "eager"] == "trains"
assert found["Scaled", "graph"].startswith("ValueError"), "it has changed"
PYTHON
echo "As described."
