#!/usr/bin/env bash
# The output of Keras' MultiHeadAttention for a query that may attend to nothing.
#
# One would guess: `return_attention_scores=True` returns one thing more and changes no output;
# `dropout` changes nothing outside of training.
# What happens: either takes another way through the layer. Without them a query whose mask is False
# everywhere gets the mean of all values, with one of them zeros. So for empty sequences, and for
# rows that a mask of one's own leaves nothing, a forward pass that looks at its scores gives other
# outputs than one that does not, and the same weights give others in a network with dropout.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `_compute_attention` of keras/src/layers/attention/multi_head_attention.py:
# `ops.dot_product_attention` in one branch, the Softmax layer in the other, which zeroes such rows.
# No report of it was found.
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
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 4, 8)).astype("float32")
plain = keras.layers.MultiHeadAttention(2, 4)
with_dropout = keras.layers.MultiHeadAttention(2, 4, dropout=0.1)
for layer in (plain, with_dropout):
    layer.build(x.shape, x.shape)
for one, other in zip(plain.trainable_weights, with_dropout.trainable_weights, strict=True):
    other.assign(one)
own = np.ones((2, 4, 4), bool)
own[1] = False
masks = {
    "an empty sequence": {"value_mask": np.array([[True] * 4, [False] * 4])},
    "a mask of one's own": {"attention_mask": own},
}
for name, mask in masks.items():
    mean = plain(x, x, **mask).numpy()
    scored = plain(x, x, return_attention_scores=True, **mask)[0].numpy()
    dropping = with_dropout(x, x, training=False, **mask).numpy()
    print(f"{name}: output {mean[1, 0, :2]}, with scores returned {scored[1, 0, :2]},")
    print(f"  with dropout=0.1 and not in training {dropping[1, 0, :2]}")
    for found in (scored, dropping):
        np.testing.assert_allclose(found[0], mean[0], atol=1e-5)
        assert np.abs(mean[1]).max() > 0.01 and (found[1] == 0).all(), "it has changed"
PYTHON
echo "As described."
