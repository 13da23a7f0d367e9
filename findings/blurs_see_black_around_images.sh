#!/usr/bin/env bash
# The border of images in Keras' RandomGaussianBlur, RandomSharpness and RandAugment.
#
# One would guess: a blur of a picture of one colour is that picture, and sharpening leaves it, too,
# as in Pillow (and torchvision, whose code the blur's pull request names): what lies outside of the
# picture is mirrored, repeated or left out.
# What happens: both layers and `keras.ops.image.gaussian_blur` pad with zeros. On values from 0 to
# 255 a blurred picture gets a dark frame (a corner keeps about half of its value) and a sharpened
# one a bright frame. On values from -1 to 1 zero is grey, so that the same blur of the same picture
# gives other pixels: RandomSharpness takes `value_range`, but not for this. RandAugment draws
# RandomSharpness. A network can tell by the frame how an image was augmented.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Pillow 12.0.0, Python 3.11.
# Date: 2026-12-01. Source: each augmentation layer on pictures of one colour; keras/src/layers/
# preprocessing/image_preprocessing/random_sharpness.py, keras/src/backend/tensorflow/image.py. The
# pull requests (keras #20817, #20943) and the documentation say nothing of borders.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0' 'pillow==12.0.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np
import PIL
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter

print("keras", keras.__version__, "tensorflow", tf.__version__, "pillow", PIL.__version__)
grey = np.full((32, 32, 3), 200, "uint8")
picture = Image.fromarray(grey)
for name, changed in {
    "Pillow, blur": picture.filter(ImageFilter.GaussianBlur(2)),
    "Pillow, sharpness 0": ImageEnhance.Sharpness(picture).enhance(0.0),
    "Pillow, sharpness 1.8": ImageEnhance.Sharpness(picture).enhance(1.8),
}.items():
    print(f"{name:48} changed pixels: {np.mean(np.asarray(changed) != grey):.0%}")
    np.testing.assert_array_equal(np.asarray(changed), grey)

layers = keras.layers


def blur(image, training):
    return keras.ops.image.gaussian_blur(image, kernel_size=(9, 9), sigma=(2.0, 2.0))


policy = layers.RandAugment(factor=0.3, seed=1)
for name, layer, brighter in (
    ("RandomGaussianBlur, kernel 3", layers.RandomGaussianBlur((1, 1), 3, (1.0, 1.0)), False),
    ("RandomGaussianBlur, kernel 5", layers.RandomGaussianBlur((1, 1), 5, (1.0, 1.0)), False),
    ("keras.ops.image.gaussian_blur, 9, 2", blur, False),
    ("RandomSharpness 0", layers.RandomSharpness((0.0, 0.0)), False),
    ("RandomSharpness 0.9", layers.RandomSharpness((0.9, 0.9)), True),
    ("RandAugment(0.3)'s sharpness", policy.random_sharpness, False),
):
    changed = np.asarray(layer(grey[None].astype("float32"), training=True))[0, :, :, 0]
    print(f"{name:48} changed pixels: {np.mean(np.abs(changed - 200) > 1):.0%};"
          f" corner {changed[0, 0]:.0f}, edge {changed[0, 16]:.0f}, middle {changed[16, 16]:.0f}")
    assert abs(changed[16, 16] - 200) < 0.1
    assert changed[0, 0] > 230 if brighter else changed[0, 0] < 170, "it has changed"

# The same picture in two ranges of values
rng = np.random.default_rng(0)
image = rng.integers(0, 256, size=(1, 32, 32, 3)).astype("float32")
there = layers.RandomSharpness((0.2, 0.2), value_range=(0, 255))(image, training=True)
here = layers.RandomSharpness((0.2, 0.2), value_range=(-1, 1))(image / 127.5 - 1, training=True)
difference = np.abs(np.asarray(there) - 127.5 * (np.asarray(here) + 1))[0]
print(f"values 0 to 255 against -1 to 1: middle differs by {difference[1:-1, 1:-1].max():.4f},"
      f" border by {difference.max():.0f} of 255")
assert difference[1:-1, 1:-1].max() < 0.01
assert difference.max() > 20, "it has changed"
PYTHON
echo "As described."
