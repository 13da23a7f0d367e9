#!/usr/bin/env bash
# The bins that Keras' Discretization layer learns by `adapt` from a dataset.
#
# One would guess: with `num_bins=4` a quarter of the data is in each bin, whether the layer adapts
# to one array or to a dataset of batches, up to `epsilon`, 0.01 as it is, and better with more
# data.
# What happens: each batch is merged into a summary, and each merger pushes all boundaries up. In
# batches of 32 of 320,000 uniform numbers the quarter ends at 0.44 and the last bin has 11 % of the
# data; ten times more data of the same kind push the boundaries further. One array, or few large
# batches, give quarters. Nothing warns. A smaller epsilon makes the drift smaller, and the summary
# larger.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: layers adapted to one array and to the same data in parts; `merge_summaries` and
# `compress_summary` of keras/src/layers/preprocessing/discretization.py. keras pull request 22892
# is of the last bin of one array; no report of the drift was found.
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
data = np.random.default_rng(0).random(320_000).astype("float32")  # between 0 and 1, in no order


def shares(boundaries):
    """What part of the data is in each bin."""
    return np.bincount(np.searchsorted(boundaries, data), minlength=4) / len(data)


def adapted(size, values=data, epsilon=0.01):
    """The boundaries of four bins, adapted in batches of `size`."""
    layer = keras.layers.Discretization(num_bins=4, epsilon=epsilon)
    layer.adapt(tf.data.Dataset.from_tensor_slices(values).batch(size))
    return np.array(layer.bin_boundaries)


print("320,000 numbers, uniform from 0 to 1, in four bins, epsilon 0.01")
off = {}
for size in (len(data), 32_000, 3_200, 320, 32):
    boundaries = adapted(size)
    off[size] = float(np.abs(shares(boundaries) - 0.25).max())
    print(f"batches of {size:6}: boundaries {boundaries.round(3)}, shares "
          f"{shares(boundaries).round(3)}")
assert off[len(data)] < 0.01
assert off[32] > 0.15 and off[32_000] < off[3_200] < off[320] < off[32], "it has changed"
print("more data of the same kind, in batches of 32:")
first = {count: adapted(32, data[:count])[0] for count in (3_200, 32_000, 320_000)}
for count, boundary in first.items():
    print(f"{count:7} numbers: the first quarter ends at {boundary:.3f}")
assert first[3_200] < first[32_000] < first[320_000]
PYTHON
echo "As described."
