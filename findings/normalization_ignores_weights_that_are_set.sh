#!/usr/bin/env bash
# Keras' Normalization layer and the ways to give a network the weights of another one.
#
# One would guess: networks of the same layers and the same weights give the same outputs, however
# the weights came in; `clone_model` followed by `set_weights` is a copy.
# What happens: the layer computes with tensors that `adapt` and the loading of a file have made of
# its variables, not with the variables. `set_weights`, `tf.train.Checkpoint` (`assert_consumed`
# passes) and `assign` change the variables alone: `get_weights` are equal to the last bit, and
# outputs are those of data that nobody has normalized. A clone of an adapted network is not.
# `load_weights` makes the tensors anew, but a graph that was traced before holds the old ones:
# `model(x)` is right after it and `model.predict(x)` is not. `layer.finalize_state()` mends the
# first kind, compiling again the second.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: outputs of networks compared over all ways to copy weights; `finalize_state` of
# keras/src/layers/preprocessing/normalization.py. keras issue 20147 is of the same in .h5 files,
# where it has been mended; of the other ways no report was found.
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
data = rng.normal(1000.0, 50.0, size=(256, 3)).astype("float32")


def network(adapted=False):
    """Two layers, the first of which standardizes the data if it is adapted."""
    keras.utils.set_random_seed(0)
    first = keras.layers.Normalization()
    model = keras.Sequential([keras.Input((3,)), first, keras.layers.Dense(1)])
    if adapted:
        first.adapt(data)
    return model


source = network(adapted=True)
true = source.predict(data, verbose=0)
source.save_weights("source.weights.h5")
checkpoint = tf.train.Checkpoint(model=source).save("checkpoint")


def copies():
    """Ways to give a network the weights of another one."""
    clone = keras.models.clone_model(source)
    clone.set_weights(source.get_weights())
    yield "clone_model, set_weights", clone, False, False
    model = network()
    model.set_weights(source.get_weights())
    yield "set_weights", model, False, False
    model = network()
    tf.train.Checkpoint(model=model).restore(checkpoint).assert_consumed()
    yield "tf.train.Checkpoint", model, False, False
    model = network()
    model.predict(data, verbose=0)
    model.load_weights("source.weights.h5")
    yield "load_weights after predict", model, True, False
    model = network()
    model.load_weights("source.weights.h5")
    yield "load_weights", model, True, True


for how, model, called, predicted in copies():
    for own, other in zip(source.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    in_call = float(np.abs(np.asarray(model(data)) - true).max())
    in_predict = float(np.abs(model.predict(data, verbose=0) - true).max())
    print(f"{how}: the weights are equal; outputs differ by {in_call:.2f} in model(x), "
          f"by {in_predict:.2f} in model.predict(x)")
    assert (in_call < 1e-3) == called, "it has changed"
    assert (in_predict < 1e-3) == predicted, "it has changed"
    model.layers[0].finalize_state()
    np.testing.assert_allclose(np.asarray(model(data)), true, rtol=1e-4, atol=1e-4)
print("after layer.finalize_state() model(x) is right in all of them")
PYTHON
echo "As described."
