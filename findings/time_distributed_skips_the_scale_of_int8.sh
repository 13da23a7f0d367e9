#!/usr/bin/env bash
# `model.quantize("int8")` of a network with TimeDistributed(Dense), or an EinsumDense in it.
#
# One would guess: the layer inside is quantized like any other, and outputs are off by a percent; a
# layer that can't be quantized is left as it is, as the documentation of `quantize` says.
# What happens: the layer's kernel becomes int8 and its scale a variable beside it, and the wrapper
# calls `layer.call`, where `Layer.__call__` would choose `quantized_call`. Inputs are multiplied by
# the int8 numbers as they are, and divided by no scale: outputs are hundreds of times too large,
# each feature by its own factor. Nothing warns, in graphs, in eager code and in saved files. int4
# is wrong likewise. A Sequential of Dense layers inside the wrapper is right, and so is Dense
# without it, which does the same on sequences. By the same call an `activity_regularizer` of the
# layer inside adds no loss.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all layers that can be quantized compared with themselves, alone and in wrappers; `call`
# of keras/src/layers/rnn/time_distributed.py. keras issue 3771 is of activity regularizers in 2016;
# of quantized layers no report was found.
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
layers = keras.layers
sequences = np.random.default_rng(0).normal(size=(16, 7, 12)).astype("float32")


def error(outputs, before):
    return float(np.linalg.norm(outputs - before) / np.linalg.norm(before))


def quantized(layer, mode):
    """Errors of a network with this layer after `quantize`: graph, eager code, file."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((7, 12)), layer])
    before = model.predict(sequences, verbose=0)
    model.quantize(mode)
    model.save("model.keras")
    loaded = keras.models.load_model("model.keras")
    return [
        error(model.predict(sequences, verbose=0), before),
        error(model(sequences).numpy(), before),
        error(loaded.predict(sequences, verbose=0), before),
    ]


for name, layer, wrong in (
    ("Dense", lambda: layers.Dense(5), False),
    ("TimeDistributed(Sequential([Dense]))",
     lambda: layers.TimeDistributed(keras.Sequential([layers.Dense(5)])), False),
    ("TimeDistributed(Dense)", lambda: layers.TimeDistributed(layers.Dense(5)), True),
    ("TimeDistributed(EinsumDense)",
     lambda: layers.TimeDistributed(layers.EinsumDense("ab,bc->ac", output_shape=(5,))), True),
):
    for mode, bound, least in (("int8", 0.02, 100), ("int4", 0.2, 5)):
        errors = quantized(layer(), mode)
        print(f"{mode} {name}: graph, eager code and file are off by",
              *(f"{100 * each:,.1f} %" for each in errors))
        if wrong:
            assert min(errors) > least, "it has changed"
        else:
            assert max(errors) < bound, "it has changed"

for wrapper in (lambda layer: layer, layers.TimeDistributed):
    layer = wrapper(layers.Dense(5, activity_regularizer="l2"))
    model = keras.Sequential([keras.Input((7, 12)), layer])
    model(sequences)
    print(f"{type(layer).__name__}: losses of an activity regularizer:", len(model.losses))
assert not model.losses, "it has changed"
PYTHON
echo "As described."
