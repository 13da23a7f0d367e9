#!/usr/bin/env bash
# Adam and an embedding that is looked up more than once in a batch.
#
# One would guess: the gradient of an embedding's row is the sum over the places of its token, and
# Adam sees that: its first step is the learning rate for every number, however often a token comes
# and however large its gradient is.
# What happens: an Embedding's gradient has one row for each place, and Keras' optimizers square
# these rows before those of one token are added up. n equal tokens bring n squares of one share in
# place of the square of n shares, so that Adam's step is the square root of n times larger: ten
# times the learning rate for a token that fills a hundred places, as padding does. Adagrad,
# RMSprop, Nadam, Ftrl and Adadelta are off too; SGD and Lion, which square nothing, are not. With
# `gradient_accumulation_steps`, which adds gradients up in a dense variable, Adam's step is the
# learning rate again.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: steps of all optimizers compared with those of the same gradient made dense. No report of
# it was found.
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
RATE = 0.001
PLACES = 100
tokens = tf.constant([[1] * PLACES + [2]])  # one word a hundred times, another one once


def largest(optimizer, dense, updates=1):
    """The largest number of the first step, in learning rates: of each word's row."""
    embedding = keras.layers.Embedding(4, 3, embeddings_initializer="zeros")
    for _ in range(updates):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(embedding(tokens))
        gradient = tape.gradient(loss, embedding.embeddings.value)
        assert isinstance(gradient, tf.IndexedSlices)
        if dense:
            gradient = tf.convert_to_tensor(gradient)
        optimizer.apply([gradient], [embedding.embeddings])
    return np.abs(embedding.embeddings.numpy()[1:3]).max(axis=1) / RATE


for dense in (False, True):
    often, once = largest(keras.optimizers.Adam(RATE), dense)
    print(f"Adam, {'dense gradient' if dense else 'as it comes'}:", end=" ")
    print(f"{often:.3f} learning rates where a word comes {PLACES} times, {once:.3f} where once")
    assert abs(once - 1) < 0.01
    assert abs(often - (1 if dense else PLACES**0.5)) < 0.01, "it has changed"

often, once = largest(keras.optimizers.Adam(RATE, gradient_accumulation_steps=2), False, 2)
print(f"Adam with gradient_accumulation_steps=2: {often:.3f} and {once:.3f}")
assert abs(often - 1) < 0.01 and abs(once - 1) < 0.01
for name in ("Adagrad", "RMSprop", "Nadam", "Ftrl", "Adadelta"):
    optimizer = getattr(keras.optimizers, name)
    apart, together = (largest(optimizer(RATE), dense)[0] for dense in (False, True))
    print(f"{name}: {apart / together:.2f} times the step of a dense gradient")
    assert abs(apart / together - 1) > 0.05
for name in ("SGD", "Lion"):
    optimizer = getattr(keras.optimizers, name)
    apart, together = (largest(optimizer(RATE), dense)[0] for dense in (False, True))
    assert abs(apart / together - 1) < 1e-5
PYTHON
echo "As described."
