#!/usr/bin/env bash
# Adding tensors in Keras where one of them has one axis that is longer than 1.
#
# One would guess: `keras.ops.add(x, y)`, x + y in a functional model and the Add layer broadcast as
# NumPy does ("Add arguments element-wise"), as `keras.ops.subtract` does.
# What happens: on TensorFlow a y with one axis longer than 1 is taken for a bias, whatever axis
# that is: if x's last axis is as long, y goes along it, else along axis 1. (3, 3) + (3, 1) adds the
# column as a row; (1, 3) + (3, 1) is (1, 3) in place of (3, 3); (4, 3, 5) + (3,) is added where
# NumPy refuses. A mask of queries on attention scores, (1, 1, T, 1) on (batch, heads, T, T), hides
# keys. A batch of one image makes a bias of what is none in a batch of two, so that a model called
# on one image gives another output. And all convolutions with data_format="channels_first" and as
# many filters as the image has columns add their biases to columns; some do only outside of graphs.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: sums of many shapes compared with NumPy's; `add` of keras/src/backend/tensorflow/numpy.py,
# since keras pull request 20386 ("bias_add as special case of tf.add"). keras.io/api/ops/numpy
# makes one guess so. No report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=1 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

print("keras", keras.__version__, "tensorflow", tf.__version__)
column = np.arange(3.0, dtype="float32")[:, None]
zeros = np.zeros((3, 3), "float32")
found = np.asarray(keras.ops.add(zeros, column))
print("zeros (3, 3) + a column of 0, 1, 2:", found.tolist())
assert found.tolist() == [[0, 1, 2]] * 3, "it has changed"
assert np.asarray(keras.layers.Add()([zeros, column])).tolist() == [[0, 1, 2]] * 3, "it has changed"
assert np.array_equal(keras.ops.subtract(zeros, -column), zeros + column)
assert np.array_equal(keras.ops.add(column, zeros), zeros + column), "the other way round is right"
shape = keras.ops.add(np.zeros((1, 3), "float32"), column).shape
print("shape of (1, 3) + (3, 1):", tuple(shape))
assert tuple(shape) == (1, 3), "it has changed"
refused = keras.ops.add(np.zeros((4, 3, 5), "float32"), np.ones(3, "float32"))
assert tuple(refused.shape) == (4, 3, 5), "NumPy refuses these"

scores = np.zeros((2, 2, 3, 3), "float32")
mask = np.array([0, -9, -9], "float32").reshape(1, 1, 3, 1)  # queries 1 and 2 are padding
found = np.asarray(keras.ops.add(scores, mask))[0, 0]
print("scores with a mask of queries 1 and 2:", found.tolist())
assert found.tolist() == [[0, -9, -9]] * 3, "it has changed"

x = keras.Input((3, 3))
model = keras.Model(x, x + keras.ops.mean(x, axis=-1, keepdims=True))
images = np.random.default_rng(0).normal(size=(2, 3, 3)).astype("float32")
one, two = np.asarray(model(images[:1])), np.asarray(model(images))
off = abs(one - two[:1]).max()
print("x + its mean: the first image alone differs from the first of two by", off)
assert abs(two - images - images.mean(-1, keepdims=True)).max() < 1e-6
assert off > 0.1, "it has changed"

for name in ("Conv2D", "Conv2DTranspose", "DepthwiseConv2D"):
    for columns in (8, 9):
        args = (1,) if name == "DepthwiseConv2D" else (8, 1)
        layer = getattr(keras.layers, name)(*args, data_format="channels_first")
        images = np.zeros((1, 8, columns, columns), "float32")
        layer.build(images.shape)
        layer.bias.assign(np.arange(8.0))
        for way, call in (("called", layer), ("in a graph", tf.function(lambda x, f=layer: f(x)))):
            given = np.asarray(call(tf.constant(images)))[0, :3, 0, :3].tolist()
            print(f"{name} of {columns} columns, {way}: channels 0 to 2 of bias 0, 1, 2 are", given)
            right = given == [[0] * 3, [1] * 3, [2] * 3]
            wrong = given == [[0, 1, 2]] * 3
            assert right if columns == 9 else wrong or (name, way) == ("Conv2D", "in a graph")
PYTHON
echo "As described."
