#!/usr/bin/env bash
# The Square Attack of the Adversarial Robustness Toolbox with `norm=2`.
#
# One would guess: it is the attack of the paper that its documentation names, with `norm=2` as with
# `norm=inf`, and finds what the authors' code finds.
# What happens: in each step a new square takes the place of two windows, and gets the length that
# these and the budget leave. The code divides by that length where the paper multiplies: the more
# is left, the shorter the square. With eps well above 1 (as with images from 0 to 255) the new
# square is next to nothing beside the rest, below 1 it outweighs the rest; a last line scales all
# to eps, so that nothing tells. Few steps help, and a network seems more robust than it is: of 100
# images of random numbers the attack turns 18, and 50 with a product in that place.
#
# Versions: adversarial-robustness-toolbox 1.20.1, NumPy 2.4.6, Python 3.11. Date: 2026-12-01.
# Source: seen where attacks on images in two units were compared; `generate` of
# art/attacks/evasion/square_attack.py, against attack.py of github.com/max-andr/square-attack and
# section 3 of arxiv.org/abs/1912.00049. No report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'adversarial-robustness-toolbox==1.20.1' \
    'numpy==2.4.6' 'packaging==26.4'
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import inspect
import random
import types

import art
import numpy as np
from art.attacks.evasion import square_attack
from art.estimators.classification import BlackBoxClassifierNeuralNetwork

print("art", art.__version__, "numpy", np.__version__)
SHAPE, CLASSES, COUNT, EPS = (32, 32, 3), 10, 100, 2.0
numbers = np.random.default_rng(0)
kernels = numbers.normal(size=(3072, 32)) / 10, numbers.normal(size=(32, CLASSES))
images = numbers.uniform(size=(COUNT, *SHAPE)).astype("float32")


def logits(pictures):
    return np.maximum(pictures.reshape(len(pictures), -1) @ kernels[0], 0) @ kernels[1]


classes = logits(images).argmax(axis=1)

source = inspect.getsource(square_attack)
quotient = "delta_new /= np.sqrt(np.sum(delta_new**2, axis=(1, 2), keepdims=True)) * np.sqrt("
assert source.count(quotient) == 1, "it has changed"
product = types.ModuleType("product")
exec(source.replace(quotient, quotient.replace("/= ", "*= 1 / ")), product.__dict__)


def attacked(module, unit, norm, eps):
    """The share of images that are turned, and the longest perturbation, in units of 0 to 1."""
    classifier = BlackBoxClassifierNeuralNetwork(
        lambda pictures: logits(np.asarray(pictures) / unit), SHAPE, CLASSES,
        channels_first=False, clip_values=(0.0, unit),
    )
    np.random.seed(0)
    random.seed(0)
    attack = module.SquareAttack(
        classifier, norm=norm, eps=eps * unit, max_iter=400, verbose=False
    )
    found = attack.generate(images * np.float32(unit), np.eye(CLASSES)[classes]) / unit
    lengths = np.sqrt(((found - images) ** 2).sum(axis=(1, 2, 3)))
    return float(np.mean(logits(found).argmax(axis=1) != classes)), float(lengths.max())


turned = {}
for name, module, norm, eps in (
    ("norm=inf", square_attack, np.inf, 0.01),
    ("norm=2", square_attack, 2, EPS),
    ("norm=2, with a product", product, 2, EPS),
):
    for unit in (1.0, 255.0):
        turned[name, unit], longest = attacked(module, unit, norm, eps)
        print(f"{name}, images from 0 to {unit:g}: {turned[name, unit]:.0%} are turned, L2 norm of",
              f"up to {longest:.2f}")
        assert norm != 2 or longest < EPS + 1e-4

for unit in (1.0, 255.0):
    assert turned["norm=2", unit] + 0.2 < turned["norm=2, with a product", unit], "it has changed"
PYTHON
echo "As described."
