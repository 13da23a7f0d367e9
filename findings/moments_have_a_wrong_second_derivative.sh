#!/usr/bin/env bash
# Second derivatives through `tf.nn.moments` and Keras' normalisation layers.
#
# One would guess: a gradient of a gradient through LayerNormalization, GroupNormalization or
# BatchNormalization is right, as it is through the same formula written out.
# What happens: `tf.nn.moments` takes the variance about `stop_gradient(mean)`. That is free in the
# first derivative, as its comment says, for the part through the mean is zero. The derivative of
# that zero is not: of n numbers each entry of the variance's second derivative lacks -2/n^2.
# Products with the Hessian are wrong without a word, here by up to 39 %; of gradient
# penalties (WGAN-GP) a smaller part is lost. `tf.math.reduce_variance` is right.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: seen where second derivatives of all layers were compared with differences. The line is in
# tensorflow/python/ops/nn_impl.py; tensorflow pull request 19609 added its comment, no report of
# the second derivative was found.
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


def gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)


def second(function, x):
    """The Hessian of a function with one value."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = gradient(function, x)
    return tape.jacobian(first, x).numpy()


x = tf.constant([1.0, 2.0, 4.0, 8.0], tf.float64)
hessians = {
    "tf.nn.moments": second(lambda x: tf.nn.moments(x, 0)[1], x),
    "keras.ops.moments": second(lambda x: keras.ops.moments(x, 0)[1], x),
    "tf.math.reduce_variance": second(tf.math.reduce_variance, x),
}
for name, hessian in hessians.items():
    print(f"second derivative of the variance of 4 numbers, first row, {name}: {hessian[0]}")
np.testing.assert_allclose(hessians["tf.math.reduce_variance"], np.eye(4) / 2 - 1 / 8)
for name in ("tf.nn.moments", "keras.ops.moments"):
    np.testing.assert_allclose(hessians[name], np.eye(4) / 2, err_msg="it has changed")

layers = {
    "LayerNormalization": keras.layers.LayerNormalization(dtype="float64"),
    "GroupNormalization": keras.layers.GroupNormalization(2, dtype="float64"),
    "BatchNormalization": keras.layers.BatchNormalization(dtype="float64"),
}
x, direction, mixing = (tf.constant(rng.normal(size=(4, 6))) for _ in range(3))
step = 1e-5
for name, layer in layers.items():
    options = {"training": True} if name == "BatchNormalization" else {}

    def loss(x, layer=layer, options=options):
        return tf.reduce_sum(mixing * layer(x, **options) ** 2)

    ends = loss(x + step * direction) - loss(x - step * direction)
    first = tf.reduce_sum(gradient(loss, x) * direction)
    found = gradient(lambda x, f=loss: tf.reduce_sum(gradient(f, x) * direction), x)
    ahead, behind = gradient(loss, x + step * direction), gradient(loss, x - step * direction)
    true = (ahead - behind) / (2 * step)
    error = float(tf.norm(found - true) / tf.norm(true))
    print(f"{name}: its Hessian times a vector is off by {error:.0%} of the differences' norm")
    assert abs(float(first - ends / (2 * step))) < 1e-6, "the first derivative is right"
    assert error > 0.01, "it has changed"

kernel, step_of_kernel = (tf.constant(rng.normal(size=(6, 6))) for _ in range(2))


def penalty(kernel):
    """The squared norm of the gradient for the inputs, as WGAN-GP bounds it."""
    return tf.reduce_sum(gradient(lambda x: tf.reduce_sum(tf.tanh(
        mixing * layers["LayerNormalization"](x @ kernel))), x) ** 2)


found = float(tf.reduce_sum(gradient(penalty, kernel) * step_of_kernel))
ends = penalty(kernel + step * step_of_kernel) - penalty(kernel - step * step_of_kernel)
true = float(ends / (2 * step))
print(f"a gradient penalty's derivative along a line of kernels: {found:.4f}, truly {true:.4f}")
assert abs(found / true - 1) > 1e-3, "it has changed"
PYTHON
echo "As described."
