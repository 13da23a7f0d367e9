#!/usr/bin/env bash
# The derivative of the gradient of a bilinear resize, and its derivative in forward mode.
#
# One would guess: resizing is linear, so that forward mode is the resize of the direction, and
# second derivatives through it are right, or a LookupError says that TensorFlow has none, as it
# does for nearest interpolation.
# What happens: ResizeBilinearGrad is registered as an operation without a gradient. What depends on
# it counts as constant: forward mode gives None, and the gradient of a gradient gives None, or a
# number in which that path is missing: gradient penalties and products with the Hessian of a
# network with `UpSampling2D(interpolation="bilinear")` leave out all below it.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `NotDifferentiable("ResizeBilinearGrad")` in tensorflow/python/ops/image_grad.py, read and
# run. tensorflow issues 22208 and 38643 ask for the derivative, from when its lack was an error; no
# report of the silence was found.
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
image, direction = (tf.constant(rng.normal(size=(1, 3, 3, 2)), tf.float32) for _ in range(2))


def gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)


def hessian_product(function):
    return gradient(lambda x: tf.reduce_sum(gradient(function, x) * direction), image)


def layer(interpolation):
    return keras.layers.UpSampling2D(2, interpolation=interpolation)


bilinear, nearest = layer("bilinear"), layer("nearest")
with tf.autodiff.ForwardAccumulator(image, direction) as accumulator:
    resized, repeated = bilinear(image), nearest(image)
print("forward mode:", accumulator.jvp(resized), "where the resized direction is right;",
      "by nearest a tensor of shape", accumulator.jvp(repeated).shape)
np.testing.assert_allclose(accumulator.jvp(repeated), nearest(direction))
assert accumulator.jvp(resized) is None, "it has changed"

print("second derivative of the sum of squares:", hessian_product(lambda x: tf.reduce_sum(
    bilinear(x) ** 2)), "where it is not zero")
assert hessian_product(lambda x: tf.reduce_sum(bilinear(x) ** 2)) is None, "it has changed"


def with_skip(x):
    return tf.reduce_sum(bilinear(x) ** 2) + tf.reduce_sum(x**2)


found = hessian_product(with_skip).numpy()
# Both parts are quadratic, so that this difference is exact but for rounding.
true = (gradient(with_skip, image + direction) - gradient(with_skip, image - direction)) / 2
print(f"beside a path of its own: {found.ravel()[:3]}, by differences {true.numpy().ravel()[:3]}")
np.testing.assert_allclose(found, 2 * direction, rtol=1e-5, err_msg="it has changed")
assert np.abs(true - found).max() > 0.5
try:
    hessian_product(lambda x: tf.reduce_sum(tf.image.resize(x, (6, 6), "nearest") ** 2))
except LookupError as error:
    print("nearest:", error)
else:
    raise AssertionError("it has changed")
PYTHON
echo "As described."
