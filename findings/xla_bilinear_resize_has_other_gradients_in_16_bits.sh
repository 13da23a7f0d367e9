#!/usr/bin/env bash
# The gradient of a bilinear upsampling in mixed precision, compiled by XLA.
#
# One would guess: `jit_compile=True` changes the rounding of a gradient, or says what it can't
# compile, as it does for bicubic interpolation.
# What happens: for float16 and bfloat16 inputs the compiled gradient is another function. Of a
# whole upsampling by 2, whose true gradient is 4 everywhere, every second pixel gets 0, as on a
# chessboard; the others 4 in bfloat16 and 2.25 in float16. Odd factors give what is no number.
# The forward pass is right, float32 is right, and nothing is said: a Keras network with
# UpSampling2D(interpolation="bilinear") trains under mixed_bfloat16 with wrong gradients below it.
# `dtype="float32"` for that layer brings the right ones back.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: gradients of all Keras layers compared over graphs, XLA and precisions. Keras issue 20931
# and openxla/xla issue 43052 are of networks where the same gradient fails to compile; no report of
# wrong numbers was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0' 'keras==3.15.1'
cd "$folder"
"$folder/venv/bin/pip" list 2>/dev/null | grep -E '^(keras|tensorflow_cpu) '
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf


def gradient(policy, compiled):
    """Of the sum of what an upsampling by 2 gives, in its input of 3 by 3 pixels."""
    layer = keras.layers.UpSampling2D(2, interpolation="bilinear", dtype=policy)

    @tf.function(jit_compile=compiled, autograph=False)
    def run(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(layer(images))
        return tape.gradient(total, images)

    images = tf.ones([1, 3, 3, 1], keras.DTypePolicy(policy).compute_dtype)
    return np.asarray(tf.cast(run(images), "float32"))[0, ..., 0]


for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
    for compiled in (False, True):
        found = gradient(policy, compiled)
        print(f"{policy}, jit_compile={compiled}:", found.tolist())
        right = np.array_equal(found, np.full([3, 3], 4.0))
        assert right == (policy == "float32" or not compiled)
        assert right or (found == 0).sum() == 5
PYTHON
