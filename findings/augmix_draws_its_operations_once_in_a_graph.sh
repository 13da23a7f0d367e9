#!/usr/bin/env bash
# Keras' AugMix in a tf.data pipeline, or in a network that `fit` trains.
#
# One would guess: for each image (or batch) the layer draws other chains of operations, by its
# seed. Its documentation says that it "is safe to use inside a tf.data or grain pipeline".
# What happens: the operations are drawn by Python's `random.choice`. A pipeline traces the layer
# once, so that one draw serves all images of all epochs: in one run every image is rotated, in the
# next none is; only the strengths differ from image to image. `seed` does not reach that draw
# either: eager layers of one seed differ, and two runs train on differently augmented images,
# unless Python's own generator is seeded.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all augmenting layers compared, eager with graphs and one seed with itself. keras issue
# 21169 is of the same in RandAugment, where it has been mended; of AugMix no report was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import random

import keras
import numpy as np
import tensorflow as tf

print("keras", keras.__version__, "tensorflow", tf.__version__)
# An image of two colours. Operations on single pixels leave two colours at most; those that move
# pixels mix them.
noise = np.random.default_rng(0).integers(0, 2, size=(24, 24, 1))
image = tf.constant((50 + 100 * noise).repeat(3, -1), tf.float32)
options = {"all_ops": False, "num_chains": 2, "chain_depth": 1, "seed": 1}


def share_moved(images):
    """The share of images whose pixels were moved."""
    return np.mean([len(np.unique(np.round(one.numpy(), 2))) > 6 for one in images])


random.seed(0)
eager, mapped = [], []
for _ in range(10):
    layer = keras.layers.AugMix(**options)
    eager.append(share_moved([layer(image, training=True) for _ in range(40)]))
    layer = keras.layers.AugMix(**options)
    pipeline = tf.data.Dataset.from_tensors(image).repeat(40)
    pipeline = pipeline.map(lambda x, layer=layer: layer(x, training=True))
    mapped.append([share_moved(pipeline), share_moved(pipeline)])
print("share of 40 images that are moved, of 10 eager layers:", np.round(eager, 2))
print("of 10 pipelines, first and second epoch:", np.round(mapped, 2).tolist())
mapped = np.array(mapped)
assert all(0.2 < share < 0.9 for share in eager)
assert np.all((mapped < 0.05) | (mapped > 0.9)), "it has changed"
assert (mapped < 0.05).any() and (mapped > 0.9).any()
assert np.all(np.abs(mapped[:, 0] - mapped[:, 1]) < 0.1), "a second epoch has the same operations"

pair = [keras.layers.AugMix(seed=1)(image, training=True) for _ in range(2)]
print("two eager layers of one seed differ by", float(tf.reduce_max(tf.abs(pair[0] - pair[1]))))
assert float(tf.reduce_max(tf.abs(pair[0] - pair[1]))) > 1, "it has changed"
PYTHON
echo "As described."
