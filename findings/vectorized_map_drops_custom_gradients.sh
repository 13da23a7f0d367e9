#!/usr/bin/env bash
# The gradient of tf.vectorized_map of a function with a custom gradient.
#
# One would guess: `tf.vectorized_map(f, x)` is `tf.map_fn(f, x)`, only faster: a custom gradient in
# f (a straight-through estimator, a reversed gradient, `tf.grad_pass_through`) is the gradient of
# the mapped function, too.
# What happens: where the tape is around the map, the custom gradient is gone without a word, and
# the function's own operations are differentiated: a sign gives zeros, a reversed gradient the
# wrong sign. The converter of IdentityN, which carries the name of a custom gradient in a graph,
# makes a plain IdentityN. `keras.ops.vectorized_map` is the same; so are tf.function and XLA. A
# tape inside of f gives the custom gradient.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `_convert_identity_n` of tensorflow/python/ops/parallel_for/pfor.py, read and run; no
# report of it was found (tensorflow issue 53726 is of a py_function in such a function).
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
x = tf.constant([1.0, 2.0, 3.0])


@tf.custom_gradient
def straight_through(x):
    """The sign, with the gradient of the identity."""
    return tf.sign(x), lambda upstream: upstream


@tf.custom_gradient
def reversed_gradient(x):
    """The square, with a gradient of the other sign, as domain-adversarial training has it."""
    return x * x, lambda upstream: -2.0 * x * upstream


def gradient(function):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x).numpy().tolist()


def inside(element):
    """The reversed gradient at one element, by a tape inside of what is mapped."""
    with tf.GradientTape() as tape:
        tape.watch(element)
        value = reversed_gradient(element)
    return tape.gradient(value, element)


cases = {
    "straight through": (straight_through, [1.0] * 3, [0.0] * 3),
    "tf.grad_pass_through": (tf.grad_pass_through(tf.sign), [1.0] * 3, [0.0] * 3),
    "reversed": (reversed_gradient, [-2.0, -4.0, -6.0], [2.0, 4.0, 6.0]),
}
for name, (function, stated, lost) in cases.items():
    mapped = gradient(lambda x, f=function: tf.map_fn(f, x))
    vectorized = gradient(lambda x, f=function: tf.vectorized_map(f, x))
    by_keras = gradient(lambda x, f=function: keras.ops.vectorized_map(f, x))

    @tf.function(autograph=False, jit_compile=True)
    def compiled(x):
        return tf.vectorized_map(function, x)

    print(f"{name}: map_fn {mapped}, vectorized_map {vectorized}")
    assert gradient(function) == mapped == stated
    assert vectorized == by_keras == gradient(compiled) == lost, "it has changed"
assert tf.vectorized_map(inside, x).numpy().tolist() == [-2.0, -4.0, -6.0]
PYTHON
echo "As described."
