#!/usr/bin/env bash
# Batch normalization with synchronized=True, of features whose mean is large beside their deviation.
#
# One would guess: the argument changes over which samples the moments are taken and no more, so that
# on one device the layer gives what it gives without.
# What happens: it computes the variance as E[x^2] - E[x]^2 in float32, where the layer without it
# sums squares of deviations. At a mean of 1,000 deviations the outputs are off by 5 %; at 3,000 the
# difference rounds to 0 in some features, and the outputs have a deviation of 20 in place of 1.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: outputs compared over the layer's arguments; keras/src/backend/tensorflow/nn.py, moments.
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
noise = np.random.default_rng(0).normal(size=(256, 16)).astype("float32")


def deviation(mean, synchronized):
    """Of the outputs of a training call."""
    layer = keras.layers.BatchNormalization(synchronized=synchronized)
    return float(np.std(layer(mean + noise, training=True)))


found = {}
for mean in (10.0, 1000.0, 3000.0):
    found[mean] = deviation(mean, False), deviation(mean, True)
    print(f"mean {mean:6.0f}: deviation of the outputs %.3f, synchronized %.3f" % found[mean])
assert all(abs(plain - 1) < 0.01 for plain, _ in found.values())
assert abs(found[10.0][1] - 1) < 0.01 and found[3000.0][1] > 3
PYTHON
echo "Synchronized batch normalization loses the variance of features with a large mean."
