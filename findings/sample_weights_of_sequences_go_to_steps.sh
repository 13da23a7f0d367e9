#!/usr/bin/env bash
# One weight for each sequence, `fit(x, y, sample_weight=w)`, where each step has an output.
#
# One would guess: w, of the batch's length, weights sequences, as the documentation of `fit` says
# ("1:1 mapping between weights and samples"), and as the metrics do.
# What happens: the loss multiplies an array of shape (batch, steps) with one of shape (batch,), and
# the rules of broadcasting match the last axis. Where a batch has as many sequences as each has
# steps, the weights go to the *steps*: sequence 0's weight to step 0 of all. A sequence with weight
# 0 is learned. So it is with images, whose columns get the weights, in segmentation. Other lengths
# raise an error that names shapes. `reduction="mean_with_sample_weight"` divides by the sum of the
# weights before they are spread, so that loss and gradient are as many times too large as there
# are steps. Weighted metrics in the same line are right. `sample_weight=w[:, None]` weights
# sequences in the usual reduction.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: losses of all reductions compared with the same weights spread by hand;
# `reduce_weighted_values` of keras/src/losses/loss.py. No report of it was found; keras pull
# request 23235 is of weights with more axes than the loss.
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
batch = steps = 8
x = rng.normal(size=(batch, steps, 3)).astype("float32")
y = rng.normal(size=(batch, steps, 2)).astype("float32")
weights = rng.uniform(size=batch).astype("float32")
weights[0] = 0.0


def network(reduction):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((steps, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    model.compile(keras.optimizers.SGD(1.0), loss, weighted_metrics=["mse"])
    return model


def evaluated(reduction, weights):
    options = {"batch_size": batch, "verbose": 0, "return_dict": True}
    return network(reduction).evaluate(x, y, sample_weight=weights, **options)


errors = np.mean((network("sum").predict(x, verbose=0) - y) ** 2, -1)
spread = np.broadcast_to(weights[:, None], errors.shape)
found = evaluated("sum_over_batch_size", weights)
by_sequence, by_step = np.mean(errors * spread), np.mean(errors * spread.T)
print(f"loss {found['loss']:.4f}; weighted by sequence {by_sequence:.4f}, by step {by_step:.4f}")
assert abs(found["loss"] - by_step) < 1e-5, "it has changed"
assert abs(by_sequence - by_step) > 1e-3
column = evaluated("sum_over_batch_size", weights[:, None])["loss"]
print(f"loss with the weights as a column {column:.4f}")
assert abs(column - by_sequence) < 1e-5
true = np.sum(errors * spread) / np.sum(spread)
print(f"weighted metric {found['mse']:.4f}, by sequence {true:.4f}")
assert abs(found["mse"] - true) < 1e-5

large = evaluated("mean_with_sample_weight", weights)["loss"]
column = evaluated("mean_with_sample_weight", weights[:, None])["loss"]
print(f"mean_with_sample_weight: {large:.3f}, with a column {column:.3f}, truly {true:.3f}")
assert abs(column / true - steps) < 1e-3, "it has changed"

# A sequence of weight 0 teaches, and a step of weight 0 does not
only = np.zeros(batch, "float32")
only[0] = 1.0
places = {"targets of sequence 0": np.s_[0], "targets of step 0": np.s_[:, 0]}
for place, kept in places.items():
    changed = y.copy()
    changed[kept] += 1.0
    moved = []
    for targets in (y, changed):
        model = network("sum_over_batch_size")
        model.fit(x, targets, sample_weight=1 - only, batch_size=batch, shuffle=False, verbose=0)
        moved.append(model.get_weights()[1])
    shift = np.abs(moved[1] - moved[0]).max()
    print(f"weight of sequence 0 is 0; other {place} alone move the bias by {shift:.2g}")
    assert (shift > 1e-3) == (place == "targets of sequence 0"), "it has changed"
PYTHON
echo "As described."
