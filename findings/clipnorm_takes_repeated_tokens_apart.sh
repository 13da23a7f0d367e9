#!/usr/bin/env bash
# A bound on the gradient's norm and an embedding that is looked up more than once in a batch.
#
# One would guess: `clipnorm=1` bounds the norm of a variable's gradient by 1, `global_clipnorm=1`
# that of all, `clipvalue` each number, whatever the layer.
# What happens: an Embedding's gradient has one row for each token of the batch, and Keras clips
# these rows before those of one token are added up. The norm is that of the rows as if each were of
# another token, so that n equal tokens give a step of the square root of n times the bound, of
# `clipvalue` n times. Padding and frequent words are such tokens. A gradient that is made dense is
# bounded.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `_clip_gradients` of keras/src/optimizers/base_optimizer.py, read and run; rows are added
# in the optimizer's update. No report of it was found.
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
tokens = tf.constant([[1] * 100])  # a sentence of one word


def step(dense, **bound):
    """The norm and the largest number of one step of SGD with rate 1."""
    embedding = keras.layers.Embedding(5, 3, embeddings_initializer="zeros")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embedding(tokens))
    gradient = tape.gradient(loss, embedding.embeddings.value)
    assert isinstance(gradient, tf.IndexedSlices)
    if dense:
        gradient = tf.convert_to_tensor(gradient)
    optimizer = keras.optimizers.SGD(1.0, **bound)
    optimizer.apply([gradient], [embedding.embeddings])
    moved = embedding.embeddings.numpy()
    return float(np.linalg.norm(moved)), float(np.abs(moved).max())


cases = (("clipnorm", 0, 10), ("global_clipnorm", 0, 10), ("clipvalue", 1, 100))
for name, index, factor in cases:
    bound = 1.0 if index == 0 else 0.5
    rows, dense = (step(dense, **{name: bound})[index] for dense in (False, True))
    what = "norm" if index == 0 else "largest number"
    print(f"{name}={bound}: the {what} of the step is {rows:.4g}, of a dense gradient {dense:.4g}")
    assert abs(dense - bound) < 1e-5
    assert abs(rows - factor * bound) < 1e-3 * factor, "it has changed"
PYTHON
echo "As described."
