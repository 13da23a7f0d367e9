#!/usr/bin/env bash
# Keras' losses Dice and Tversky with `sample_weight`.
#
# One would guess: weights say how much each pixel, or each picture, counts, as for every other loss
# of segmentation; a pixel of weight 0, which nobody has labelled, changes neither loss nor
# gradient.
# What happens: both losses reduce the whole batch to one number, which is then multiplied by each
# weight. So weights have no place: the loss is the unweighted one times the mean of the weights.
# Pixels and pictures of weight 0 keep their part in it and their gradient, and pictures of weights
# 0 and 3 are learned alike. Nothing warns. `axis=(1, 2, 3)` weighs pictures, but no pixels.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all losses with weights 0 and 1 compared with the same samples picked out; `Loss.__call__`
# of keras/src/losses/loss.py. No report of it was found; the documentation of both does not name
# weights, that of `compile` and `fit` makes no exception.
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
truth = rng.integers(0, 2, size=(4, 8, 8, 1)).astype("float32")
outputs = rng.uniform(0.05, 0.95, size=truth.shape).astype("float32")
counts = np.ones((4, 8, 8), "float32")
counts[:, :, 4:] = 0.0  # the right half of each picture has no labels
other = truth.copy()
other[:, :, 4:] = 1 - other[:, :, 4:]


def seen(loss, truth, weights):
    """The loss, and the largest gradient in the right halves."""
    values = tf.constant(outputs)
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = loss(truth, values, sample_weight=weights)
    gradient = tape.gradient(result, values).numpy()
    return float(result), float(np.abs(gradient[:, :, 4:]).max())


print("four pictures whose right halves have weight 0")
for name in ("BinaryCrossentropy", "BinaryFocalCrossentropy", "Dice", "Tversky"):
    loss = getattr(keras.losses, name)()
    result, gradient = seen(loss, truth, counts)
    flipped, _ = seen(loss, other, counts)
    left = float(loss(truth[:, :, :4], outputs[:, :, :4]))
    whole = float(loss(truth, outputs))
    print(f"{name}: {result:.4f}, with other labels there {flipped:.4f}; gradient there "
          f"{gradient:.1e}; of the left halves alone {left:.4f}, unweighted {whole:.4f}")
    if name.startswith("Binary"):
        assert abs(result - flipped) < 1e-6 and gradient == 0.0
    else:
        assert abs(result - flipped) > 0.01 and gradient > 1e-4, "it has changed"
        np.testing.assert_allclose(result, whole * counts.mean(), rtol=1e-5)

weights = np.array([0.0, 0.0, 1.0, 3.0], "float32")  # of the pictures
for name in ("Dice", "Tversky"):
    for axis in (None, (1, 2, 3)):
        loss = getattr(keras.losses, name)(axis=axis)
        values = tf.constant(outputs)
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = loss(truth, values, sample_weight=weights)
        steepest = np.abs(tape.gradient(result, values).numpy()).max(axis=(1, 2, 3))
        print(f"{name}, axis={axis}: largest gradients in pictures of weights 0, 0, 1, 3:",
              steepest.round(4))
        if axis is None:
            assert steepest.min() > 0.5 * steepest.max(), "it has changed"
        else:
            assert not steepest[:2].any()
PYTHON
echo "As described."
