#!/usr/bin/env bash
# Keras' `layer.trainable = True` on a layer that is trainable already: variables stay frozen.
#
# One would guess: `layer.trainable = True` lets all variables of the layer learn, as its docstring
# says ("Sets trainable attribute for the layer and its sublayers") and as `False` freezes all; so
# it undoes `layer.kernel.trainable = False`, too.
# What happens: under the TensorFlow backend `Layer.__setattr__` does nothing where the attribute is
# the value already ("short circuit for self.$x = self.$x"), so that the property's setter never
# runs. A kernel that was frozen by itself stays frozen under `layer.trainable = True`, and under
# `model.trainable = True`; the same line behind `layer.trainable = False` thaws it:
# what the line does depends on what was set before.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-29.
# Source: a layer that was to learn again had no trainable variables.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
cat >try.py <<'PYTHON'
import keras
import tensorflow as tf


def learning(*before):
    """What learns after a kernel was frozen by itself and `trainable` was set to these values."""
    layer = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.kernel.trainable = False
    for owner, value in before:
        {"layer": layer, "model": model}[owner].trainable = value
    return [v.name for v in model.trainable_variables]


CASES = {
    "nothing else": ((), ["bias"]),
    "layer.trainable = True": ((("layer", True),), ["bias"]),
    "model.trainable = True": ((("model", True),), ["bias"]),
    "layer.trainable = False, then True": (
        (("layer", False), ("layer", True)),
        ["kernel", "bias"],
    ),
    "model.trainable = False, then True": (
        (("model", False), ("model", True)),
        ["kernel", "bias"],
    ),
}
found = {name: learning(*before) for name, (before, _) in CASES.items()}
for name, names in found.items():
    print(f"  kernel.trainable = False, {name}: learns {names}")
print("  keras", keras.__version__, "tensorflow", tf.__version__)
assert found == {name: expected for name, (_, expected) in CASES.items()}, "it has changed"
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" try.py 2>/dev/null
echo "As described."
