#!/usr/bin/env bash
# The gradient of a 3D max pooling where several voxels of a window are the largest.
#
# One would guess: one voxel of a window gets the gradient, as in 2D pooling; what a window hands
# down is what it was given, on every device and in every mode.
# What happens: TensorFlow's own CPU kernel gives the whole gradient to *each* voxel that equals the
# largest. A window of eight equal voxels hands down eight times what it got. Under XLA, and where
# oneDNN has the kernel (float32, if TF_ENABLE_ONEDNN_OPTS is on), the first voxel alone gets it; so
# do both for 2D. Equal voxels are common where a volume has a constant background, which a
# convolution's bias lifts from zero: the gradient of that bias is then up to eight times too large,
# and the same network trains to other weights with jit_compile or on another CPU.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: gradients of all Keras layers on whole numbers, compared over graphs, XLA and oneDNN. No
# report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0' 'keras==3.15.1'
cd "$folder"
cat >pooling.py <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

volume = np.zeros([1, 8, 8, 8, 1], "float32")
volume[:, 2:6, 2:6, 2:6] = np.random.default_rng(0).normal(size=[1, 4, 4, 4, 1])


def gradients(rank, compiled):
    """Of a pooling's input at a window of equal numbers, and of a convolution's bias below one."""
    pooling = getattr(keras.layers, f"MaxPooling{rank}D")(2)
    convolution = getattr(keras.layers, f"Conv{rank}D")(1, 1, bias_initializer="ones")
    images = tf.constant(volume if rank == 3 else volume[:, 4])
    convolution.build(images.shape)
    pooling.build(images.shape)
    bias = convolution.bias.value

    @tf.function(jit_compile=compiled, autograph=False)
    def run(window):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(window)
            pooled, hidden = pooling(window), pooling(convolution(images))
        return tape.gradient(pooled, window), tape.gradient(hidden, bias), tf.size(hidden)

    given, of_bias, outputs = run(tf.ones([1, *[2] * rank, 1]))
    return float(tf.reduce_sum(given)), float(tf.reduce_sum(of_bias)), int(outputs)


for rank in (2, 3):
    for compiled in (False, True):
        total, of_bias, outputs = gradients(rank, compiled)
        print(f"{rank}D, jit_compile={compiled}: a gradient of 1 came down as {total:g};", end=" ")
        print(f"bias below {outputs} outputs: {of_bias:g}")
        if rank == 3 and not compiled:
            assert total == 8 and of_bias > 5 * outputs
        else:
            assert total == 1 and of_bias == outputs
PYTHON
"$folder/venv/bin/pip" list 2>/dev/null | grep -E '^(keras|tensorflow_cpu) '
TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 "$folder/venv/bin/python" pooling.py
