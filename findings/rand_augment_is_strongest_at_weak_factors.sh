#!/usr/bin/env bash
# The `factor` of Keras' RandAugment, "the strength of the augmentation", between 0 and 1.
#
# One would guess: a larger factor changes images more, a factor of 0 next to nothing; operations
# that have a direction take either, as in the paper's code.
# What happens: posterization keeps `max(1, int(8 * factor))` bits or less, so that it is strongest
# at weak factors: one bit of eight at 0.1, where every pixel of such an image is black or grey.
# Sharpness goes the same way. At 0, solarization inverts whole images. And the layer draws from 0
# to the factor where the operations alone draw from -factor to factor: brightness is never lowered,
# translation goes down and to the right and never up or left, rotation one way. AugMix makes its
# operations alike.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: the layer's operations measured over the factor; keras/src/layers/preprocessing/
# image_preprocessing/rand_augment.py. No report of it was found.
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
keras.utils.set_random_seed(0)
images = tf.constant(rng.integers(60, 196, size=(128, 32, 32, 3)), tf.float32)
operations = ("random_posterization", "random_sharpness", "solarization", "random_contrast",
              "random_color_degeneration")
changes = {name: [] for name in operations}
factors = (0.0, 0.1, 0.3, 0.5, 0.9)
for factor in factors:
    policy = keras.layers.RandAugment(factor=factor, seed=1)
    for name in operations:
        changed = getattr(policy, name)(images, training=True)
        changes[name].append(float(tf.reduce_mean(tf.abs(changed - images))))
print("mean change of a pixel at the factors", factors)
for name, values in changes.items():
    print(f"    {name:26}", np.round(values, 1))
assert np.all(np.diff(changes["random_contrast"]) > 0), "this one is as guessed"
assert changes["random_posterization"][1] > 2 * changes["random_posterization"][4], "it has changed"
assert changes["random_sharpness"][0] > changes["random_sharpness"][3], "it has changed"
weak = keras.layers.RandAugment(factor=0.1, seed=1)
print("values after posterization at 0.1:", np.unique(weak.random_posterization(images)))
inverted = keras.layers.RandAugment(factor=0.0, seed=1).solarization(images, training=True)
np.testing.assert_allclose(inverted, 255 - images, err_msg="it has changed")

# Directions
policy = keras.layers.RandAugment(factor=0.3, seed=1)
brightness = policy.random_brightness(images, training=True) - images
print("pixels that random_brightness darkens:", int(np.sum(brightness.numpy() < 0)))
assert float(tf.reduce_min(brightness)) >= 0, "it has changed"
places = np.arange(33) - 16


def moved(name, row, column):
    """Where 200 squares go, in pixels down and to the right."""
    squares = np.zeros((200, 33, 33, 3), "float32")
    squares[:, row - 2 : row + 3, column - 2 : column + 3] = 255
    mass = getattr(policy, name)(tf.constant(squares), training=True).numpy().mean(-1)
    centres = [mass.sum(2) @ places, mass.sum(1) @ places] / mass.sum((1, 2))
    return centres - [[row - 16], [column - 16]]


translated = moved("random_translation", 16, 16)
print("least moves of 200 translations, down and right:", np.round(translated.min(1), 3))
assert translated.min() > -1e-3, "it has changed"
turned = moved("random_rotation", 16, 26)[0]
print(f"a square at the right: {np.mean(turned < 0):.0%} of 200 rotations move it up")
assert np.all(turned < 0), "it has changed"
PYTHON
echo "As described."
