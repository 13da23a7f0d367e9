#!/usr/bin/env bash
# A network that ends in softmax, in mixed precision, where it is wrong and sure of it.
#
# One would guess: in bfloat16 the loss and gradient are those of float32 to some percent. Keras
# takes the logits behind a softmax activation for its cross entropy, so that float32 networks learn
# from a sample however wrong they are.
# What happens: under mixed_bfloat16 and mixed_float16 the loss casts the outputs to float32 first.
# The cast is another tensor, the logits are not found behind it, and probabilities are clipped at
# 1e-7. A sample whose true class has less has a loss of 16.1 and no gradient at all: it is never
# learned. `dtype="float32"` for the last layer brings both back.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `_get_logits` of keras/src/backend/tensorflow/nn.py and `Loss.__call__` of
# keras/src/losses/loss.py, read and run; no report of it was found.
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


def step(policy, gap, last=None):
    """The loss of a wrong sample and the bias of its class behind one step of SGD at rate 1."""
    keras.config.set_dtype_policy(policy)
    layer = keras.layers.Dense(2, activation="softmax", dtype=last)
    model = keras.Sequential([keras.Input((1,)), layer])
    layer.kernel.assign([[gap, 0.0]])
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    loss = model.train_on_batch(np.ones((1, 1), "float32"), np.ones(1))
    return float(loss), float(layer.bias.numpy()[1])


cases = {
    "float32": ("float32", 20.0),
    "mixed_bfloat16": ("mixed_bfloat16", 20.0),
    "mixed_float16": ("mixed_float16", 20.0),
    "mixed_bfloat16, last layer in float32": ("mixed_bfloat16", 20.0, "float32"),
}
found = {name: step(*case) for name, case in cases.items()}
for name, (loss, learned) in found.items():
    print(f"{name:<38} loss {loss:8.4f}, the step on the true class' bias {learned:.4f}")
for name in ("float32", "mixed_bfloat16, last layer in float32"):
    np.testing.assert_allclose(found[name], (20.0, 1.0), rtol=1e-4)
for name in ("mixed_bfloat16", "mixed_float16"):
    np.testing.assert_allclose(found[name], (16.1181, 0.0), rtol=1e-4, err_msg="it has changed")
PYTHON
echo "As described."
