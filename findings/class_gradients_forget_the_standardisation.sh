#!/usr/bin/env bash
# Class gradients of the Adversarial Robustness Toolbox for networks with `preprocessing`.
#
# One would guess: `class_gradient(x)` gives the derivatives of all logits by the images, and row k
# is `class_gradient(x, label=k)`.
# What happens: with `preprocessing=(mean, std)`, as for ImageNet, `class_gradient(x, label=k)` and
# `loss_gradient` pass through the standardisation, `class_gradient(x)` does not: it is by the
# standardised images, std times as large, and with one std per channel of another direction. The
# documentation promises derivatives "w.r.t. `x`" in all cases. Attacks that ask for all classes at
# once are wrong without a word: DeepFool's perturbations are 1/std times as long as they need be,
# over 4 times for ImageNet's. A `Rescaling` or `Normalization` layer in the network has none of it.
#
# Versions: adversarial-robustness-toolbox 1.20.1, Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu),
# Python 3.11. Date: 2026-12-01.
# Source: a network with `preprocessing` compared with the same one with a layer for it;
# `class_gradient` of art/estimators/classification/tensorflow.py. No report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'adversarial-robustness-toolbox==1.20.1' \
    'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import art
import keras
import numpy as np
import tensorflow as tf
from art.attacks.evasion import DeepFool
from art.estimators.classification import TensorFlowV2Classifier

print("art", art.__version__, "keras", keras.__version__, "tensorflow", tf.__version__)
mean = np.array([0.485, 0.456, 0.406], "float32")  # of ImageNet
std = np.array([0.229, 0.224, 0.225], "float32")
images = np.random.default_rng(0).uniform(0.3, 0.7, size=(50, 8, 8, 3)).astype("float32")


def classifier(layer):
    """A linear network of 4 logits, standardised by a layer of its own or by ART."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(4)]
    if layer:
        layers.insert(0, keras.layers.Rescaling((1 / std).tolist(), (-mean / std).tolist()))
    return TensorFlowV2Classifier(
        keras.Sequential([keras.Input((8, 8, 3)), *layers]), nb_classes=4, input_shape=(8, 8, 3),
        clip_values=(0.0, 1.0), preprocessing=None if layer else (mean, std),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
    )


inside, outside = classifier(True), classifier(False)
classes = np.eye(4)[inside.predict(images).argmax(axis=1)]
close = {"rtol": 1e-4, "atol": 1e-5}
np.testing.assert_allclose(inside.predict(images), outside.predict(images), **close)
np.testing.assert_allclose(
    inside.loss_gradient(images, classes), outside.loss_gradient(images, classes), **close
)
print("predictions and loss_gradient: the same with preprocessing and with a layer for it")
true = inside.class_gradient(images)
for label in range(4):
    one = outside.class_gradient(images, label=label)[:, 0]
    np.testing.assert_allclose(one, true[:, label], **close)
print("class_gradient(x, label=k): the same")
seen = outside.class_gradient(images)
ratios = np.median(seen / true, axis=(0, 1, 2, 3))
print(f"class_gradient(x): {ratios.round(3)} times that with a layer, by channels; std is {std}")
np.testing.assert_allclose(seen, true * std, err_msg="it has changed", **close)

lengths = []
for each in (inside, outside):
    found = DeepFool(each, epsilon=0.0, batch_size=50, verbose=False).generate(images)
    lengths.append(np.sqrt(((found - images) ** 2).sum(axis=(1, 2, 3))))
ratio = float(np.median(lengths[1] / lengths[0]))
print(f"DeepFool: perturbations are {ratio:.2f} times as long with preprocessing")
assert 4 < ratio < 5, "it has changed"
PYTHON
echo "As described."
