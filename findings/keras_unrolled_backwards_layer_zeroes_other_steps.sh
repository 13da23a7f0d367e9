#!/usr/bin/env bash
# The outputs of a recurrent layer that runs backwards over masked sequences and is unrolled.
#
# One would guess: `unroll` trades memory for speed and changes no number, whatever the other
# arguments: Keras' documentation names speed and memory alone.
# What happens: with go_backwards=True and zero_output_for_mask=True (which Bidirectional sets
# wherever sequences are returned) the loop zeroes the outputs of masked steps, and the unrolled
# layer those of their mirror images: outputs of steps that count are lost, gradients differ.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-29.
# Source: seen where outputs of layers were compared over all arguments. No report of it was found;
# keras-team/keras issue 17596 is of other masks of backward layers.
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
mask = np.array([[True, True, True, False, False]])
x = np.random.default_rng(0).normal(size=(1, 5, 3)).astype("float32")


def is_zero(unroll):
    """Which outputs are zero."""
    keras.utils.set_random_seed(0)
    options = {"return_sequences": True, "zero_output_for_mask": True, "go_backwards": True}
    layer = keras.layers.GRU(4, unroll=unroll, use_cudnn=False, **options)
    return (layer(x, mask=mask).numpy() == 0).all(-1)[0]


loop, unrolled = is_zero(unroll=False), is_zero(unroll=True)
print("masked, as the layer sees the steps", ~mask[0, ::-1])
print("zero outputs of the loop           ", loop)
print("zero outputs of the unrolled layer ", unrolled)
assert (loop == ~mask[0, ::-1]).all()
assert not (unrolled == loop).all()
PYTHON
