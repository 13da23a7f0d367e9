#!/usr/bin/env bash
# Convolutions that TensorFlow's CPU build has on some x86 CPUs and not on others.
#
# One would guess: an op that runs on one x86 CPU runs on every other by the same wheel; what a CPU's
# instructions change is speed and rounding.
# What happens: `data_format="channels_first"` and the gradients of grouped convolutions have CPU
# kernels from oneDNN only. TensorFlow switches oneDNN on by itself where the CPU has AVX-512 VNNI or
# its like, and leaves it off on others (many of AMD's, Intel's before 2019), as the environment
# variable TF_ENABLE_ONEDNN_OPTS=0 does. There the same lines raise, and say nothing of oneDNN; =1
# brings the kernels on any CPU. Keras' grouped layers go through XLA, its channels-first layers
# don't.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-29.
# Source: tests that had passed on a CPU with AVX-512 failed on one without.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
cat >try.py <<'PYTHON'
import sys

import keras
import numpy as np
import tensorflow as tf

x = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 6, 4)), tf.float32)
kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 2, 8)), tf.float32)


def grouped_gradient():
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        loss = tf.reduce_sum(tf.nn.conv2d(x, kernel, 1, "SAME") ** 2)
    return tape.gradient(loss, kernel)


def keras_grouped_gradient():
    layer = keras.layers.Conv2D(8, 3, groups=2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    return tape.gradient(loss, layer.kernel.value)


def keras_channels_first():
    return keras.layers.Conv2D(8, 3, data_format="channels_first")(x)


runs = []
for attempt in (grouped_gradient, keras_grouped_gradient, keras_channels_first):
    try:
        attempt()
        runs.append(True)
        print(f"  {attempt.__name__}: runs")
    except tf.errors.OpError as problem:
        runs.append(False)
        text = problem.message.replace("\n", " ")
        print(f"  {attempt.__name__}: {type(problem).__name__}: {text[:160]}")
print("  keras", keras.__version__, "tensorflow", tf.__version__)
expected = {"1": [True, True, True], "0": [False, True, False]}[sys.argv[1]]
assert runs == expected, "it has changed"
PYTHON
for on in 1 0; do
  echo "TF_ENABLE_ONEDNN_OPTS=$on"
  TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=$on "$folder/venv/bin/python" try.py "$on" 2>/dev/null
done
echo "As described."
