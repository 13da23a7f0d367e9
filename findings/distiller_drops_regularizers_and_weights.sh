#!/usr/bin/env bash
# Regularizers of a student, and weights of samples and classes, in Keras' Distiller.
#
# One would guess: `distiller.fit(...)` trains the student as `student.fit(...)` does, with the
# distillation losses added: the student's `kernel_regularizer`s, activity regularizers and
# `add_loss` count ("Compile the distiller (like any Keras model)"), and `sample_weight` and
# `class_weight` weight samples, or are refused.
# What happens: `compute_loss` is overridden and has neither. The regularizers are in
# `distiller.losses`, and in no loss; with a student loss of weight 1 and nothing to distil,
# gradients and losses are those of a student without them. Weights are taken and dropped: samples
# of weight 0 are learned, a class that was to count ten times counts once, and metrics of
# `weighted_metrics`, in the same row, are weighted. Nothing warns; a note in the docstring of
# `compute_loss` has "Sample weights (currently unused)".
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: students trained by both and compared; keras/src/distillation/distiller.py. No report of
# it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf
from keras.distillation import Distiller, LogitsDistillation

print("keras", keras.__version__, "tensorflow", tf.__version__)
random = np.random.default_rng(0)
samples = random.normal(size=(64, 4)).astype("float32")
classes = random.integers(0, 3, size=64)
half = np.repeat([1.0, 0.0], 32).astype("float32")


def network(seed, regularizer=None):
    keras.utils.set_random_seed(seed)
    dense = keras.layers.Dense(3, kernel_regularizer=regularizer)
    return keras.Sequential([keras.Input((4,)), dense])


def trained(distil, regularizer=None, **arguments):
    """The kernel after some epochs, and the number of losses, by either `fit`."""
    student = network(1, regularizer)
    model = student
    if distil:  # with nothing of the teacher in it
        model = Distiller(network(2), student, LogitsDistillation(), student_loss_weight=1.0)
    model.compile(keras.optimizers.SGD(0.5),
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(samples, classes, batch_size=64, epochs=20, verbose=0, **arguments)
    return student.layers[0].kernel.numpy(), len(model.losses)


plain, _ = trained(False)
np.testing.assert_allclose(trained(True)[0], plain, atol=1e-5)
print("without regularizer and weights: `student.fit` and `distiller.fit` give one kernel")
for name, arguments in (
    ("kernel_regularizer", {"regularizer": keras.regularizers.L2(0.1)}),
    ("sample_weight", {"sample_weight": half}),
    ("sample_weight of zeros", {"sample_weight": np.zeros(64, "float32")}),
    ("class_weight", {"class_weight": {0: 10.0, 1: 1.0, 2: 1.0}}),
):
    right, _ = trained(False, **arguments)
    distilled, losses = trained(True, **arguments)
    print(f"{name}: changes the kernel by {np.abs(right - plain).max():.3f} in `student.fit`, by",
          f"{np.abs(distilled - plain).max():.1e} in `distiller.fit`; distiller.losses: {losses}")
    assert np.abs(right - plain).max() > 0.05
    np.testing.assert_allclose(distilled, plain, atol=1e-5, err_msg="it has changed")
PYTHON
echo "As described."
