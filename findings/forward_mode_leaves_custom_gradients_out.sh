#!/usr/bin/env bash
# A custom gradient under tf.autodiff.ForwardAccumulator.
#
# One would guess: forward mode gives the derivative that the custom gradient states, as the tape
# does (TensorFlow transposes it), or refuses; eager code and a `tf.function` agree.
# What happens: it depends on who calls. Called as it is, the function gives the derivative of its
# own operations, and what `tf.custom_gradient` states is left out without a word, in eager code and
# where the accumulator stands in a `tf.function`. (In eager code a function whose operations have
# no derivative, as a sign, gives the stated one.) The same function behind a `tf.function` of its
# own gives the stated derivative: there the decorator changes the number.
#
# Versions: TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: seen where forward and backward derivatives of layers were compared. The accumulator
# watches the operations inside, and `_eager_mode_decorator` of
# tensorflow/python/ops/custom_gradient.py records no forward function; no report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import tensorflow as tf

print("tensorflow", tf.__version__)
x, direction = tf.constant([-2.0, 0.5, 3.0]), tf.ones(3)


@tf.custom_gradient
def straight_through(x):
    """The sign, with the gradient of the identity."""
    return tf.sign(x), lambda upstream: upstream


@tf.custom_gradient
def square(x):
    """The square, whose gradient is said to be ten."""
    return x * x, lambda upstream: 10.0 * upstream


def backward(function):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x)


def forward(function):
    with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
        value = function(x)
    return accumulator.jvp(value, tf.UnconnectedGradients.ZERO)


cases = (
    (square, [10.0] * 3, [-4.0, 1.0, 6.0], [-4.0, 1.0, 6.0]),
    (straight_through, [1.0] * 3, [1.0] * 3, [0.0] * 3),
)
for function, stated, eager, traced in cases:
    compiled = tf.function(function, autograph=False)

    @tf.function(autograph=False)
    def all_in_one():
        return forward(function)

    seen = {
        "backward": backward(function),
        "backward, tf.function": backward(compiled),
        "forward": forward(function),
        "forward, all in a tf.function": all_in_one(),
        "forward, tf.function": forward(compiled),
    }
    seen = {name: value.numpy().tolist() for name, value in seen.items()}
    for name, value in seen.items():
        print(f"{function.__name__:<17} {name:<30} {value}")
    assert seen["backward"] == seen["backward, tf.function"] == stated
    assert seen["forward, tf.function"] == stated
    assert seen["forward"] == eager, "it has changed"
    assert seen["forward, all in a tf.function"] == traced, "it has changed"
PYTHON
echo "As described."
