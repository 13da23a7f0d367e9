#!/usr/bin/env bash
# A Keras model that was trained, deleted and collected.
#
# One would guess: once a model and all that refers to it are deleted, `clear_session` and a
# collection free the graph of its training step, as they free that of its prediction.
# What happens: the graph of every training step ever traced stays, whatever is deleted. The step
# calls `ReplicaContext.all_reduce`, whose gradient is a `tf.custom_gradient`. TensorFlow registers
# the gradient of each use in a graph under a new name and for ever, and it holds tensors of the
# graph. A process that compares many networks grows with each. `predict` keeps nothing, unless the
# model itself has a custom gradient. Run each training in a process of its own.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-29.
# Source: seen as a test suite's memory grew; no report of it was looked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import gc

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

print("keras", keras.__version__, "tensorflow", tf.__version__)
x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")


def use(what):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0) if what == "fit" else model.predict(x, verbose=0)


def graphs_after(what, models):
    """Graphs in memory once as many models are made, used, deleted and collected."""
    for _ in range(models):
        use(what)
        keras.backend.clear_session()
        gc.collect()
    return sum(isinstance(each, FuncGraph) for each in gc.get_objects())


predicted = graphs_after("predict", 3)
trained = [graphs_after("fit", 1) for _ in range(3)]
print(f"after predict of 3 models: {predicted} graphs; after each fit: {trained}")
assert predicted == 0 and trained == [1, 2, 3], "it has changed"
PYTHON
