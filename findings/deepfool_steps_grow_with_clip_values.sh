#!/usr/bin/env bash
# The adversarial examples of DeepFool by the Adversarial Robustness Toolbox, and units of pixels.
#
# One would guess: DeepFool finds a small perturbation that changes the class, in whatever units the
# images are: those of images from 0 to 255 are 255 times those of the same images from 0 to 1, and
# the same part of a picture. On a linear network one step ends right at the border between classes.
# `clip_values` keep pixels in their range and do nothing else.
# What happens: each step, which is in the images' units already, is multiplied by the length of the
# range of `clip_values`. Images from -1 to 1 get twice the perturbation, images from 0 to 255 steps
# of 255 times, as far as black and white let them: here 31 times the distance. All change their
# class, so success rates look well; distances, the measure of robustness, are wrong. Without
# `clip_values`, which ART advises against, they are right. PGD by `eps` in units of pixels is the
# same in all units.
#
# Versions: adversarial-robustness-toolbox 1.20.1, Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu),
# Python 3.11. Date: 2026-12-01.
# Source: one network attacked in several units, compared with distances to its borders;
# art/attacks/evasion/deepfool.py. ART pull request 476 brought the factor in, as scaling to
# `clip_values`; no report of what it does was found.
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
from art.attacks.evasion import DeepFool, ProjectedGradientDescent
from art.estimators.classification import TensorFlowV2Classifier

print("art", art.__version__, "keras", keras.__version__, "tensorflow", tf.__version__)
images = np.random.default_rng(0).uniform(0.4, 0.6, size=(50, 8, 8, 1)).astype("float32")


def attacked(low, high, clip=True, attack=None):
    """Perturbations as parts of the range, the classes found, and a network of logits."""
    keras.utils.set_random_seed(1)
    network = keras.Sequential([
        keras.Input((8, 8, 1)),
        keras.layers.Rescaling(1 / (high - low), -low / (high - low)),  # to 0..1
        keras.layers.Flatten(),
        keras.layers.Dense(4),  # logits
    ])
    classifier = TensorFlowV2Classifier(
        network, nb_classes=4, input_shape=(8, 8, 1), clip_values=(low, high) if clip else None,
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    pixels = images * (high - low) + low
    if attack is None:
        attack = DeepFool(classifier, epsilon=0.0, batch_size=50, verbose=False)
    else:
        attack = attack(classifier, high - low)
    classes = np.eye(4)[classifier.predict(pixels).argmax(axis=1)]
    found = attack.generate(pixels, classes)
    changed = classifier.predict(found).argmax(axis=1) != classes.argmax(axis=1)
    moved = (found - pixels) / (high - low)
    return np.sqrt((moved**2).sum(axis=(1, 2, 3))), changed.mean(), network


def to_border(network):
    """The distance from each image in 0..1 to the nearest border between two classes."""
    kernel, bias = (np.array(w, "float64") for w in network.get_weights())
    logits = images.reshape(50, -1) @ kernel + bias
    first = logits.argmax(axis=1)
    gaps = logits[np.arange(50), first][:, None] - logits
    norms = np.linalg.norm(kernel[:, first].T[:, :, None] - kernel[None], axis=1)
    ratios = np.where(np.arange(4) == first[:, None], np.inf, gaps / np.maximum(norms, 1e-12))
    return ratios.min(axis=1)


ratios = {}
for low, high, clip in ((0, 1, True), (-1, 1, True), (0, 255, True), (0, 255, False)):
    lengths, changed, network = attacked(float(low), float(high), clip)
    ratios[low, high, clip] = float(np.median(lengths / to_border(network)))
    clip_is = "with" if clip else "without"
    print(f"images from {low} to {high}, {clip_is} clip_values: perturbations",
          f"are {ratios[low, high, clip]:.2f} times the distance to the border (median), "
          f"{changed:.0%} change the class")
assert abs(ratios[0, 1, True] - 1) < 0.02 and abs(ratios[0, 255, False] - 1) < 0.02
assert abs(ratios[-1, 1, True] - 2) < 0.04 and ratios[0, 255, True] > 10, "it has changed"


def gradient_descent(classifier, unit):
    return ProjectedGradientDescent(
        classifier, norm=2, eps=0.3 * unit, eps_step=0.1 * unit, max_iter=5, verbose=False
    )


one, other = (attacked(0.0, high, attack=gradient_descent)[0] for high in (1.0, 255.0))
np.testing.assert_allclose(one, other, rtol=1e-3)
print("ProjectedGradientDescent: the same perturbations from 0 to 1 and from 0 to 255")
PYTHON
echo "As described."
