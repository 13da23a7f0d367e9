#!/usr/bin/env bash
# Keras' SpectralNormalization around a layer that is frozen.
#
# One would guess: a layer with `trainable = False` keeps its weights in `fit`, as Keras promises of
# all layers and as `BatchNormalization` does, which then neither learns nor moves its averages.
# What happens: each training step divides the kernel by an estimate of its largest singular value
# and writes the quotient into it, frozen or not. Here a frozen kernel of norm 3 has norm 1 after
# the first batches, with a learning rate of 0 as well: predictions shrink to a third, though `fit`
# trains another layer alone. Nothing warns. In a GAN each step of the generator rewrites the frozen
# discriminator. The wrapped layer without the wrapper keeps its kernel.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: weights of frozen layers before and after `fit`; `call` of
# keras/src/layers/normalization/spectral_normalization.py. No report of it was found.
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
data = rng.normal(size=(64, 6)).astype("float32")
targets = rng.normal(size=(64, 8)).astype("float32")


def frozen(wrap):
    """A frozen layer with a kernel of norm 3, and a head that learns."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(8, kernel_initializer="orthogonal")
    body = keras.layers.SpectralNormalization(layer) if wrap else layer
    inputs = keras.Input((6,))
    normalized = keras.layers.BatchNormalization(name="batch_norm", trainable=False)(body(inputs))
    head = keras.layers.EinsumDense("ab,b->ab", 8, name="head", kernel_initializer="ones")
    model = keras.Model(inputs, head(normalized))
    layer.kernel.assign(3.0 * np.array(layer.kernel))
    body.trainable = False
    return model, layer


for name, wrap, learning_rate in (
    ("Dense", False, 0.1),
    ("SpectralNormalization(Dense)", True, 0.1),
    ("SpectralNormalization(Dense), learning rate 0", True, 0.0),
):
    model, layer = frozen(wrap)
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    assert [v.path for v in model.trainable_variables] == ["head/kernel"]
    statistics = model.get_layer("batch_norm").get_weights()
    before, predicted = np.array(layer.kernel), model.predict(data, verbose=0)
    model.fit(data, targets, epochs=5, batch_size=16, verbose=0)
    after = np.array(layer.kernel)
    for old, new in zip(statistics, model.get_layer("batch_norm").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    norms = [float(np.linalg.norm(kernel, 2)) for kernel in (before, after)]
    changed = not np.array_equal(before, after)
    print(f"{name}: norm of the frozen kernel {norms[0]:.3f} before fit, {norms[1]:.3f} after it")
    assert changed == wrap, "it has changed"
    if changed:
        assert abs(norms[1] - 1) < 0.05
    if learning_rate == 0:
        ratio = model.predict(data, verbose=0) / predicted
        print(f"with learning rate 0, fit scales predictions by {np.median(ratio):.3f}")
        assert abs(np.median(ratio) - 1 / 3) < 0.05
PYTHON
echo "As described."
