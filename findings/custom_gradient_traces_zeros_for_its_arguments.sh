#!/usr/bin/env bash
# What `tf.custom_gradient` adds to a traced training step, beside what its function states.
#
# One would guess: the backward pass of a custom gradient holds the operations that its gradient
# function makes. That function sees the gradients of the outputs, and nothing else.
# What happens: in a `tf.function` the arguments pass through the same IdentityN as the outputs. The
# tape takes them for outputs that nobody used, and makes a tensor of zeros for each: three
# operations an argument, of its size. The gradient function never sees them, and the graph's
# optimizer removes them before the step runs. Their cost is that of tracing: of a ResNet-50 whose
# 54 kernels each have a custom gradient of three arguments it is some 500 of 9,000 operations.
# Without a graph nothing of it is made.
#
# Versions: TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: seen where the operations of a traced step were counted. The arguments are added in
# tensorflow/python/ops/custom_gradient.py, `_graph_mode_decorator`; no report was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import tensorflow as tf

print("tensorflow", tf.__version__)
SIZE = 1000


@tf.custom_gradient
def scaled(x, *others):
    """2 x; the others get no gradient."""
    return 2.0 * x, lambda dy: (2.0 * dy, *(None for _ in others))


@tf.function(autograph=False)
def gradient(x, *others):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scaled(x, *others)
    return tape.gradient(y, x)


def zeros(others):
    """The tensors of zeros that a traced step holds."""
    traced = gradient.get_concrete_function(*[tf.ones([SIZE])] * (1 + others))
    fills = [op for op in traced.graph.get_operations() if op.type == "Fill"]
    values = [tf.get_static_value(op.inputs[1]) for op in fills]
    return sum(value == 0.0 for value in values)


counts = {1 + others: zeros(others) for others in (0, 1, 3, 7)}
for arguments, found in counts.items():
    print(arguments, "arguments:", found, "tensors of zeros in the traced step")
assert all(found == arguments for arguments, found in counts.items())
PYTHON
