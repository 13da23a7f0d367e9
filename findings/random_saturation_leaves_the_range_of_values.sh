#!/usr/bin/env bash
# Keras' RandomSaturation, and RandomColorJitter with `saturation_factor`, on values 0 to 255.
#
# One would guess: `factor` 0.5 changes nothing and 1.0 "makes the image fully saturated": the
# largest channel of a pixel stays, the smallest falls to 0. Images from 0 to 255, the default
# `value_range`, give the same pictures as images from 0 to 1 with value_range=(0, 1).
# What happens: the layer clips the *saturation*, a share between 0 and 1 whatever the values are,
# to `value_range`, and never the output. So above factor 0.5 saturations of up to 255 remain, and
# the weaker channels fall below zero, into the thousands at factors near 1: a network sees -1,000
# where 0 is black. RandomColorJitter clips nothing after it either. With value_range=(0, 1) all is
# as `tf.image.adjust_saturation` has it, and so are factors of up to 0.5, the layer's example among
# them. Cast to uint8 for a look, the pixels are noise.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: each augmentation layer compared over value ranges; keras/src/layers/preprocessing/
# image_preprocessing/random_saturation.py. keras-cv (#1411) notes that such channels are shares,
# whatever the range of values; no report of this fault was found.
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
images = rng.integers(60, 196, size=(16, 32, 32, 3)).astype("float32")

for factor in (0.3, 0.5, 0.75, 0.9, 0.99):
    layer = keras.layers.RandomSaturation((factor, factor), value_range=(0, 255))
    bytes_ = np.asarray(layer(images, training=True))
    layer = keras.layers.RandomSaturation((factor, factor), value_range=(0, 1))
    shares = 255 * np.asarray(layer(images / 255, training=True))
    reference = 255 * tf.image.adjust_saturation(images / 255, factor / (1 - factor)).numpy()
    print(f"factor {factor:4}: lowest value {bytes_.min():9.1f},"
          f" below zero {np.mean(bytes_ < -1):4.0%};"
          f" with value_range=(0, 1) {shares.min():5.1f}, tf.image {reference.min():5.1f}")
    np.testing.assert_allclose(shares, reference, atol=0.1)
    if factor <= 0.5:
        np.testing.assert_allclose(bytes_, reference, atol=0.1)
    else:
        assert bytes_.min() < -50, "it has changed"

# A jitter to either side, as its documentation allows
jitter = keras.layers.RandomColorJitter(saturation_factor=(0.3, 0.7), seed=1)
mild = np.asarray(jitter(images, training=True))
jitter = keras.layers.RandomColorJitter(saturation_factor=(0.0, 1.0), seed=1)
full = np.asarray(jitter(images, training=True))
for name, changed in {"0.3 to 0.7": mild, "0 to 1": full}.items():
    low = changed.min(axis=(1, 2, 3))
    print(f"RandomColorJitter, saturation {name}: lowest value {changed.min():.0f},"
          f" images with values below zero: {np.mean(low < -1):.0%},"
          f" mean of all values {changed.mean():.1f} of {images.mean():.1f}")
    assert changed.min() < -20, "it has changed"
assert images.mean() - full.mean() > 30, "it has changed"
PYTHON
echo "As described."
