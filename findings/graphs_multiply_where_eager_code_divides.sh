#!/usr/bin/env bash
# A division by a constant, rounded down, in a tf.function: the steps of a staircase schedule.
#
# One would guess: 235.0 / 235.0 is 1 in any mode, as IEEE's division of a number by itself is, so
# that `ExponentialDecay(1.0, 235, 0.5, staircase=True)`, a halving each epoch of 60,000 samples in
# batches of 256, halves in step 235 in eager code and in graphs.
# What happens: in a `tf.function`, without XLA too, Grappler's constant folding turns x / c into x
# * (1 / c), which rounds twice. 235 times its reciprocal is just below 1, and the floor of it 0:
# the rate falls a step late, in step 236. It is so for 41 steps an epoch, too, and not for 100.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: seen where schedules were compared over modes; gone with the option
# constant_folding=False. tensorflow issue 102771 is of 1 / x, another rule of the same pass; no
# report of this was found.
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


def late(count):
    """The multiples of `count`, up to 32 times, whose quotient falls short in a tf.function."""
    steps = tf.range(1.0, 33.0) * count

    def quotient(steps):
        return tf.floor(steps / count)

    assert (quotient(steps).numpy() == range(1, 33)).all(), "eager code divides"
    graph = tf.function(quotient, autograph=False)(steps).numpy()
    return [k for k in range(1, 33) if graph[k - 1] != k]


found = {count: late(float(count)) for count in (41, 235, 100)}
print("multiples of a count that a graph rounds down to the one before:", found)
assert found[235] == [1, 2, 4, 8, 16, 31, 32] and found[41] and not found[100], "it has changed"
tf.config.optimizer.set_experimental_options({"constant_folding": False})
assert not late(235.0), "without the pass graphs divide"
tf.config.optimizer.set_experimental_options({"constant_folding": True})

schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 235, 0.5, staircase=True)


@tf.function(autograph=False)
def traced(step):
    return schedule(step)


for step in (234, 235, 236):
    step = tf.constant(step, tf.int64)
    print(f"step {step}: rate {schedule(step):.2f} in eager code, {traced(step):.2f} in a graph")
assert float(schedule(tf.constant(235))) == 0.5
assert float(traced(tf.constant(235, tf.int64))) == 1.0, "it has changed"
PYTHON
echo "As described."
