#!/usr/bin/env bash
# Keras' RandomBrightness on images of bytes, as `load_data` and image decoders give them.
#
# One would guess: too bright becomes white and too dark becomes black, for any dtype. The layer's
# documentation says that it takes "float or int dtype", that it outputs floats by default, and that
# the output is clipped to the range of values.
# What happens: in a graph (tf.data, `fit`) that is so. In eager code the layer adds in uint8 and
# clips afterwards, when nothing is left to clip: sums wrap modulo 256. At factor 0.2 white becomes
# 50, as dark as black becomes; at -0.2 black becomes 205, as bright as white; the output is uint8.
# So a preview, a PyDataset or generator that augments, an array that is augmented beforehand, and
# `fit` with `run_eagerly=True` get other images than `fit`. int32 images are right in both.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: each augmentation layer compared over dtypes, in eager code and graphs; keras/src/layers/
# preprocessing/image_preprocessing/random_brightness.py. No report of it was found.
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
greys = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1).repeat(3, axis=-1)


def routes(layer):
    """The layer on the same greys, by five routes."""
    data = tf.data.Dataset.from_tensors(greys).map(lambda x: layer(x, training=True))
    return {
        "float32, eager": layer(greys.astype("float32"), training=True),
        "int32, eager": layer(greys.astype("int32"), training=True),
        "uint8, tf.data": next(iter(data)),
        "uint8, tf.function": tf.function(lambda x: layer(x, training=True))(greys),
        "uint8, eager": layer(greys, training=True),
    }


for factor in (0.2, -0.2):
    right = np.clip(greys.astype(int) + round(factor * 255), 0, 255)
    for name, changed in routes(keras.layers.RandomBrightness((factor, factor))).items():
        wrong = np.mean(np.abs(np.asarray(changed).astype(float) - right) > 1)
        ends = np.asarray(changed)[0, [0, -1], [0, -1], 0]
        print(f"factor {factor:4}, {name:19} {np.asarray(changed).dtype.name:8}"
              f" 0 -> {ends[0]:3.0f}, 255 -> {ends[1]:3.0f}, wrong: {wrong:.0%}")
        assert (wrong > 0.15) == (name == "uint8, eager"), "it has changed"


def trained_on(run_eagerly):
    """The mean of what a network behind the layer sees in `fit`, as its loss."""
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    bright = keras.layers.RandomBrightness((0.2, 0.2))(inputs)
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0)(bright))
    model = keras.Model(inputs, outputs)
    model.compile(loss="mean_absolute_error", run_eagerly=run_eagerly)
    return model.fit(greys, np.zeros((1, 3)), verbose=0).history["loss"][0]


means = {run_eagerly: trained_on(run_eagerly) for run_eagerly in (False, True)}
print("mean of the brightened images in fit, by run_eagerly:", means)
assert means[False] - means[True] > 30, "it has changed"
PYTHON
echo "As described."
