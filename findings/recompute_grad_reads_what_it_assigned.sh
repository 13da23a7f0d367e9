#!/usr/bin/env bash
# The second run of tf.recompute_grad and a variable that the first run assigns.
#
# One would guess: the backward pass of a recomputed block sees the values that its forward pass saw,
# so that gradients are those without recomputation.
# What happens: the second run reads variables anew. A layer that counts its calls or keeps moving
# statistics in a variable, and uses them, computes with the changed value, and assigns once more.
# The gradient is that of another function, in eager mode and in tf.function. Nothing warns.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-28.
# Source: seen while layers in recomputed blocks were made to learn; no report of it was looked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import tensorflow as tf

print("keras", keras.__version__, "tensorflow", tf.__version__)
x = tf.constant(1.0)


def derivative(recomputed, graph):
    """d(calls x)/dx at the first call, which is 1, and the number of calls that were counted."""
    calls = tf.Variable(0.0, trainable=False)

    def block(t):
        calls.assign_add(1.0)
        return calls * t

    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = (tf.recompute_grad(block) if recomputed else block)(x)
        return tape.gradient(y, x)

    return float((tf.function(step) if graph else step)()), float(calls)


found = {}
for recomputed in (False, True):
    for graph in (False, True):
        found[recomputed, graph] = derivative(recomputed, graph)
        how = "recomputed" if recomputed else "plain", "graph" if graph else "eager"
        print(*how, "-> derivative %g, calls counted %g" % found[recomputed, graph])
assert found[False, False] == found[False, True] == (1.0, 1.0)
assert found[True, False] == found[True, True] == (2.0, 2.0), "it has changed"
PYTHON
echo "As described."
