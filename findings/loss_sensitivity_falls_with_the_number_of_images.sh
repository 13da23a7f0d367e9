#!/usr/bin/env bash
# The loss sensitivity of a network by the Adversarial Robustness Toolbox, and sizes of batches.
#
# One would guess: `art.metrics.loss_sensitivity(classifier, x, y)` is what its documentation says,
# the average over images of the norm of the loss's gradient by the image: four times the same
# images give the same number, and an image's `loss_gradient` does not depend on the others in `x`.
# What happens: the loss is a mean over the batch with Keras' losses as they are, and nothing undoes
# that, so each image's gradient is divided by the number of images. 1,000 images give a sensitivity
# 1,000 times too small, and networks measured on different numbers of images can't be compared.
# Nothing warns. `compute_loss` sets the reduction itself and is right. The attacks tried take the
# gradient's sign or direction, and do not mind. `reduction="sum"` in `loss_object` mends it.
#
# Versions: adversarial-robustness-toolbox 1.20.1, Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu),
# Python 3.11. Date: 2026-12-01.
# Source: measures of images compared with those of each image alone; `loss_gradient` of
# art/estimators/classification/tensorflow.py. foolbox issue 439 is of the same in another library;
# of ART no report was found.
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
from art.estimators.classification import TensorFlowV2Classifier
from art.metrics import loss_sensitivity

print("art", art.__version__, "keras", keras.__version__, "tensorflow", tf.__version__)
images = np.random.default_rng(0).uniform(0.4, 0.6, size=(20, 8, 8, 1)).astype("float32")
keras.utils.set_random_seed(1)
network = keras.Sequential([
    keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)
])


def classifier(**options):
    return TensorFlowV2Classifier(
        network, nb_classes=4, input_shape=(8, 8, 1), clip_values=(0.0, 1.0),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True, **options),
    )


classes = np.eye(4)[classifier().predict(images).argmax(axis=1)]
for options in ({}, {"reduction": "sum"}):
    each = np.mean([
        loss_sensitivity(classifier(**options), images[i : i + 1], classes[i : i + 1])
        for i in range(20)
    ])
    once = loss_sensitivity(classifier(**options), images, classes)
    four = loss_sensitivity(
        classifier(**options), np.tile(images, (4, 1, 1, 1)), np.tile(classes, (4, 1))
    )
    print(f"loss sensitivity {options or ''}: mean of 20 images alone {each:.5f}, of the 20 images "
          f"{once:.5f}, of four times the same {four:.5f}")
    if options:
        np.testing.assert_allclose([once, four], each, rtol=1e-4)
    else:
        np.testing.assert_allclose([once, four], [each / 20, each / 80], rtol=1e-3,
                                   err_msg="it has changed")
PYTHON
echo "As described."
