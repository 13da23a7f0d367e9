#!/usr/bin/env bash
# Keras' LogitsDistillation as it is made by default, and by the names of losses.
#
# One would guess: `LogitsDistillation(temperature=3.0)` is Hinton's loss: the divergence of the
# student's softmax from the teacher's, at that temperature, times its square. The documentation has
# "temperature for softmax scaling" and `loss="kl_divergence"`, which is the default, and
# `keras.losses.KLDivergence()` would be the same.
# What happens: softmax is applied where the loss is an *instance* of KLDivergence. A name becomes a
# function, and this takes the logits themselves for probabilities, clipped to between 1e-7 and 1,
# and forgets the square. What the student is given is no distribution: only those of its logits
# that lie between 0 and the temperature have a gradient, where the teacher's are positive, and all
# of these one way, up. The loss falls below zero, which no divergence does, and the student does
# not come to agree with its teacher. "categorical_crossentropy", an example of the documentation,
# is given logits for probabilities, too. `loss=keras.losses.KLDivergence()` is right.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: the loss compared with its formula; `compute_loss` of
# keras/src/distillation/distillation_loss.py. The class's examples, at
# keras.io/api/distillation, make that guess. No report of it was found.
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
TEMPERATURE = 3.0
random = np.random.default_rng(0)


def of_names():
    return LogitsDistillation(TEMPERATURE)


def of_instances():
    return LogitsDistillation(TEMPERATURE, loss=keras.losses.KLDivergence())


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def by_hand(teacher, student):
    p, q = softmax(teacher / TEMPERATURE), softmax(student / TEMPERATURE)
    return TEMPERATURE**2 * float((p * np.log(p / q)).sum(axis=-1).mean())


def of_clipped_logits(teacher, student):
    p, q = (np.clip(logits / TEMPERATURE, 1e-7, 1) for logits in (teacher, student))
    return float((p * np.log(p / q)).sum(axis=-1).mean())


teacher, student = (random.normal(size=(8, 5), scale=3).astype("float32") for _ in range(2))
right = by_hand(teacher, student)
named, instance = (
    float(make().compute_loss(teacher, student)) for make in (of_names, of_instances)
)
print(f"by the formula {right:.4f}, KLDivergence() {instance:.4f}, by default {named:.4f}")
np.testing.assert_allclose(instance, right, rtol=1e-4)
assert abs(named - right) > 0.2 * right, "it has changed"
np.testing.assert_allclose(named, of_clipped_logits(teacher, student), rtol=1e-4)
print("the default is a sum over clipped logits")

for make in (of_names, of_instances):
    logits = tf.Variable(student)
    with tf.GradientTape() as tape:
        loss = make().compute_loss(teacher, logits)
    gradient = tape.gradient(loss, logits).numpy()
    print(f"{make.__name__}: {np.mean(gradient == 0):.0%} of the gradient is exactly 0,",
          f"{np.mean(gradient > 0):.0%} positive")
    assert (make is of_names) == bool((gradient <= 0).all()), "it has changed"

images = random.normal(size=(512, 4)).astype("float32")
truth = np.zeros((512, 3), "float32")  # of no weight
for make, agrees in ((of_names, False), (of_instances, True)):
    networks = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        networks.append(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    networks[0].layers[0].kernel.assign(4 * networks[0].layers[0].kernel)
    distiller = Distiller(*networks, make(), student_loss_weight=0.0)
    distiller.compile(keras.optimizers.Adam(0.01), loss="mse")
    history = distiller.fit(images, truth, epochs=100, verbose=0).history["distillation_loss"]
    classes = [network.predict(images, verbose=0).argmax(axis=1) for network in networks]
    agreement = float(np.mean(classes[0] == classes[1]))
    print(f"{make.__name__}: loss from {history[0]:.3f} to {history[-1]:.3f};",
          f"the student says what its teacher says of {agreement:.0%} of the samples")
    assert (agreement > 0.97) == agrees, "it has changed"
    assert (history[-1] < -1e-3) == (not agrees), "it has changed"
PYTHON
echo "As described."
