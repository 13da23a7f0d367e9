#!/usr/bin/env bash
# `exclude_from_weight_decay` of Keras' optimizers, after a model is saved and loaded, and under
# loss scaling.
#
# One would guess: a `.keras` file, whose optimizer goes on where it was, decays what it decayed
# before; and a wrapped optimizer hands the exclusions on, as it does the learning rate.
# What happens: exclusions are attributes that no config has. A loaded model (a `ModelCheckpoint`,
# `clone`d or deserialized optimizers too) goes on with weight decay on all variables: biases and
# normalisation's scales shrink from there on, without a word. Excluding them again helps; the
# documentation says that it must come before the optimizer is built, which the loaded one is, but
# nothing refuses it. `LossScaleOptimizer`, which `compile` puts around an optimizer under
# mixed_float16, takes the call and ignores it.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all optimizers and options compared before and after saving. keras pull request 16274 says
# that such a list can't be in a config; no report or documentation of what follows was found.
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
rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 3)).astype("float32"), rng.normal(size=(64, 4)).astype("float32")


def adamw():
    return keras.optimizers.AdamW(1e-3, weight_decay=0.5)


def network(optimizer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.LayerNormalization(name="norm")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4)(hidden))
    model.compile(optimizer, "mse")
    return model


def scale_after(model, epochs):
    """The mean of the scales, which start at 1, after so many epochs of 16 steps."""
    model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return float(np.mean(model.get_layer("norm").gamma.numpy()))


def excluding(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


decayed, straight = scale_after(network(adamw()), 20), scale_after(network(excluding(adamw())), 20)
model = network(excluding(adamw()))
half = scale_after(model, 10)
model.save("half.keras")
loaded = keras.models.load_model("half.keras")
resumed = scale_after(loaded, 10)
print(f"mean scale: after 10 epochs {half:.4f}, after 20 {straight:.4f}, after 10 and, loaded from",
      f"a file, 10 more {resumed:.4f}; without exclusions after 20 {decayed:.4f}")
assert resumed < straight - 0.02, "it has changed"
loaded = keras.models.load_model("half.keras")
excluding(loaded.optimizer)
again = scale_after(loaded, 10)
print(f"excluded again once loaded: {again:.4f}")
assert abs(again - straight) < 1e-5

wrapped = scale_after(network(excluding(keras.optimizers.LossScaleOptimizer(adamw()))), 20)
inner = scale_after(network(keras.optimizers.LossScaleOptimizer(excluding(adamw()))), 20)
print(f"under loss scaling, after 20: excluded by the wrapper {wrapped:.4f}, by the optimizer",
      f"inside {inner:.4f}")
assert abs(wrapped - decayed) < 1e-3 and abs(inner - straight) < 1e-3, "it has changed"
PYTHON
echo "As described."
