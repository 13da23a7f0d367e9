#!/usr/bin/env bash
# A layer's kernel that another operation of a functional model uses.
#
# One would guess: `keras.ops.matmul(hidden, dense.kernel)` in a functional model ties the two
# products, and a model that Keras makes again from the config (clone_model, or saving and loading)
# is tied too, or refuses.
# What happens: the model itself is tied. In each copy the operation holds the values that the
# kernel had. They are no weight of the copy, and what later changes the kernel, as training does,
# does not change them. With `keras.ops.transpose(dense.kernel)` in between, as weight tying needs
# it, the first model holds such values already. Nothing warns.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-28.
# Source: seen while tied weights were converted; no report of it was looked for.
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
keras.utils.set_random_seed(0)
x = np.ones((1, 4), "float32")


def network(of_kernel):
    """A dense layer whose kernel a second product uses, too."""
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, use_bias=False, name="encoder")
    return keras.Model(inputs, keras.ops.matmul(dense(inputs), of_kernel(dense.kernel)))


def growth(model):
    """By which factor the output grows when the kernel is doubled: 4 if both products use it."""
    before = model(x).numpy()
    kernel = model.get_layer("encoder").kernel
    kernel.assign(2.0 * kernel)
    return round(float((model(x).numpy() / before).mean()), 2)


model = network(lambda kernel: kernel)
model.save("model.keras")
copies = {
    "clone_model": keras.models.clone_model(model),
    "from_config": keras.Model.from_config(model.get_config()),
    "load_model": keras.models.load_model("model.keras"),
}
for copy in copies.values():
    copy.set_weights(model.get_weights())
models = {"the model itself": model, **copies, "transposed": network(keras.ops.transpose)}
factors = {name: growth(each) for name, each in models.items()}
for name, factor in factors.items():
    print(f"{name:<18} twice the kernel gives {factor:.2f} times the output")
assert factors.pop("the model itself") == 4.0
assert set(factors.values()) == {2.0}, "it has changed"
PYTHON
echo "As described."
