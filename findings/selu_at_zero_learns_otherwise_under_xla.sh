#!/usr/bin/env bash
# The derivative of SELU at zero, where a convolution meets the black part of a picture.
#
# One would guess: compiled by XLA a network has the gradients that it has without, up to rounding.
# At a kink any number between both sides would do, as long as it is the same one.
# What happens: TensorFlow's kernel takes the derivative from the right at zero, 1.051, XLA that from
# the left, 1.758. Biases start at zero, so that each pixel of a black background is at the kink
# exactly, and there are many: in the first step of a small convolutional network on drawings, six
# sevenths of them black, `jit_compile` changes the gradient of the first bias by half its length.
# ELU and ReLU have one derivative at zero in both.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: gradients of all Keras layers on whole numbers, compared over graphs and XLA. tensorflow
# pull request 125171 is of the derivative at large negative numbers; no report of this was found.
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


def at_zero(activation, compiled):
    @tf.function(jit_compile=compiled, autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        return tape.gradient(y, x)

    return float(run(tf.zeros([1]))[0])


for activation in (keras.activations.relu, keras.activations.elu, keras.activations.selu):
    plain, compiled = at_zero(activation, False), at_zero(activation, True)
    print(f"{activation.__name__} at 0: {plain:.3f}, compiled {compiled:.3f}")
    assert (abs(plain - compiled) > 0.7) == (activation is keras.activations.selu)

keras.utils.set_random_seed(0)
drawings = np.zeros([8, 16, 16, 1], "float32")
drawings[:, 5:11, 5:11] = np.random.default_rng(0).uniform(size=[8, 6, 6, 1])
layers = [keras.layers.Conv2D(4, 3, activation="selu"), keras.layers.Flatten()]
network = keras.Sequential([keras.Input([16, 16, 1]), *layers, keras.layers.Dense(3)])
bias = layers[0].bias.value


def gradient():
    with tf.GradientTape() as tape:
        logits = network(drawings)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 2, 0, 1, 2, 0, 1], logits)
    return tape.gradient(loss, bias)


plain = np.asarray(tf.function(gradient, autograph=False)())
compiled = np.asarray(tf.function(gradient, autograph=False, jit_compile=True)())
change = np.linalg.norm(compiled - plain) / np.linalg.norm(plain)
print("gradient of the first bias:", plain, "compiled:", compiled, f"change: {change:.2f}")
assert change > 0.2
PYTHON
