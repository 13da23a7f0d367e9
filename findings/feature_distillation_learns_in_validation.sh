#!/usr/bin/env bash
# Validation and training of a student with batch normalization under Keras' FeatureDistillation.
#
# One would guess: `evaluate` and `validation_data` change nothing of a network and drop nothing
# out; a training step moves the averages of batch normalization once.
# What happens: for features of a named layer the student is run a second time, always with
# training=True. Each batch of a validation moves the student's moving averages, so that validation
# data get into the network and `evaluate` twice gives two results, and features are those of
# dropout and of batch statistics, so that `distillation_loss` of the validation is not of the
# network that is saved. In training the averages move twice a step (momentum 0.99 is 0.98), the
# two passes have two dropout masks, and the student's forward pass is paid for twice. With
# LogitsDistillation none of it is so.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: variables compared around `evaluate`; `_extract_all_student_features` of
# keras/src/distillation/distiller.py. No report of it was found.
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
from keras.distillation import Distiller, FeatureDistillation, LogitsDistillation

print("keras", keras.__version__, "tensorflow", tf.__version__)
layers = keras.layers
samples = np.random.default_rng(0).normal(size=(64, 4), loc=3).astype("float32")
truth = np.zeros((64, 1), "float32")


def network(seed, dropout):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    features = layers.Dense(6, name="features")(inputs)
    features = layers.BatchNormalization(momentum=0.9, name="norm")(features)
    features = layers.Dropout(dropout, name="dropped")(features)
    return keras.Model(inputs, layers.Dense(3)(features))


def distiller(loss, dropout=0.0):
    made = Distiller(network(1, 0.0), network(2, dropout), loss, student_loss_weight=0.5)
    made.compile(keras.optimizers.SGD(0.0),
                 loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def moved(model):
    """How far the moving mean is on its way from 0 to the mean of the data, 0 to 1."""
    mean = (samples @ model.student.get_layer("features").kernel.numpy()).mean(axis=0)
    return float(np.mean(model.student.get_layer("norm").moving_mean.numpy() / mean))


by_logits = LogitsDistillation(loss=keras.losses.KLDivergence())
by_features = FeatureDistillation("mse", teacher_layer_name="norm", student_layer_name="norm")
for name, loss, in_evaluation, in_training in (
    ("LogitsDistillation", by_logits, 0.0, 0.1),
    ("FeatureDistillation", by_features, 0.1, 0.19),
):
    model = distiller(loss)
    first = model.evaluate(samples, truth, batch_size=64, verbose=0, return_dict=True)
    after = moved(model)
    second = model.evaluate(samples, truth, batch_size=64, verbose=0, return_dict=True)
    trained = distiller(loss)
    trained.fit(samples, truth, batch_size=64, epochs=1, verbose=0)
    print(f"{name}: one batch of evaluate moves the averages by {after:.2f} of the way, one of fit",
          f"by {moved(trained):.2f}; student_loss of evaluate, twice:",
          f"{first['student_loss']:.4f} {second['student_loss']:.4f}")
    np.testing.assert_allclose(after, in_evaluation, atol=1e-3, err_msg="it has changed")
    assert (first["student_loss"] == second["student_loss"]) == (in_evaluation == 0)
    np.testing.assert_allclose(moved(trained), in_training, atol=1e-3, err_msg="it has changed")

model = distiller(
    FeatureDistillation("mse", teacher_layer_name="dropped", student_layer_name="dropped"), 0.5
)
model.student.set_weights(model.teacher.get_weights())
loss = model.evaluate(samples, truth, batch_size=64, verbose=0, return_dict=True)
features = [
    keras.Model(each.inputs, each.get_layer("dropped").output).predict(samples, verbose=0)
    for each in (network(1, 0.0), network(1, 0.5))
]
difference = float(np.mean((features[0] - features[1]) ** 2))
print(f"a student equal to its teacher, with dropout: features differ by {difference:.3f},",
      f"distillation_loss of evaluate is {loss['distillation_loss']:.3f}")
assert difference < 1e-6 and loss["distillation_loss"] > 0.1, "it has changed"
PYTHON
echo "As described."
