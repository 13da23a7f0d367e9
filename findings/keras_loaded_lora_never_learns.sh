#!/usr/bin/env bash
# A Keras layer with LoRA whose weights come from a file.
#
# One would guess: a network with LoRA that is saved and loaded goes on learning where it stopped.
# What happens: the file holds the sum of kernel and LoRA, so that predictions are the
# same; and on loading both LoRA factors become zeros. The gradient of each factor is a product with
# the other, so that both stay zeros for ever: kernels that are lent to LoRA never change again, the
# biases alone learn. Nothing warns. `.keras` and `.weights.h5` are alike.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `load_own_variables` of keras/src/layers/core/dense.py and of its like,
# read and run; no report of it was found.
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
from keras import layers

print("keras", keras.__version__, "tensorflow", tf.__version__)
rng = np.random.default_rng(0)


def trained(layer, shape):
    """A network with one LoRA layer behind 30 steps, saved; its data."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), layer, layers.Flatten()])
    layer.enable_lora(2)
    model.compile(keras.optimizers.SGD(0.05), "mse")
    x = rng.normal(size=(32, *shape)).astype("float32")
    y = rng.normal(size=(32, model.output_shape[1])).astype("float32")
    model.fit(x, y, 32, 30, verbose=0)
    model.save("network.keras")
    model.save_weights("network.weights.h5")
    return model, x, y


def learns(model, x, y):
    """How far 30 more steps move the LoRA factors, and bring the loss down."""
    before = [v.numpy() for v in model.trainable_variables if "lora" in v.path]
    losses = model.fit(x, y, 32, 30, verbose=0).history["loss"]
    after = [v.numpy() for v in model.trainable_variables if "lora" in v.path]
    moved = max(np.abs(one - two).max() for one, two in zip(before, after, strict=True))
    return moved, losses[0] - losses[-1]


cases = {
    "Dense": (layers.Dense(3, use_bias=False), (6,)),
    "Conv2D": (layers.Conv2D(3, 3, use_bias=False), (5, 5, 2)),
}
for name, (layer, shape) in cases.items():
    model, x, y = trained(layer, shape)
    loaded = keras.saving.load_model("network.keras")
    again = keras.saving.load_model("network.keras")
    again.load_weights("network.weights.h5")
    difference = np.abs(model(x) - loaded(x)).max()
    kept, fresh = learns(model, x, y), learns(loaded, x, y)
    print(f"{name}: predictions of the loaded one differ by {difference:.0e}; in 30 more steps the")
    print(f"  first moves its factors by {kept[0]:.4f}, its loss falls by {kept[1]:.4f};")
    print(f"  the loaded one by {fresh[0]:.4f} and {fresh[1]:.4f}")
    assert difference < 1e-6 and kept[0] > 1e-3 and kept[1] > 1e-3
    assert fresh[0] == learns(again, x, y)[0] == 0 and abs(fresh[1]) < 1e-6, "it has changed"
PYTHON
echo "As described."
