#!/usr/bin/env bash
# The steps that Keras' float16 optimizer counts.
#
# One would guess: `optimizer.iterations` of a model that trains under mixed_float16 is the number of
# batches, as in every other precision: what logs, schedules and resumed runs count by.
# What happens: steps whose gradients are not finite are skipped without being counted, neither by
# the LossScaleOptimizer nor by the optimizer inside. The first steps of a training often are such.
# Epochs and callbacks count them, so that both counts differ from then on.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-28.
# Source: seen in points of TensorBoard that were some steps off; no report of it was looked for.
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
x = np.full((80, 4), 100.0, "float32")


def counted(policy):
    """Batches of a training, and the steps that both optimizers counted."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-6), "mse", jit_compile=False)
    model.fit(x, x[:, :1], 4, verbose=0)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return len(x) // 4, int(model.optimizer.iterations), int(inner.iterations)


found = {policy: counted(policy) for policy in ("float32", "mixed_bfloat16", "mixed_float16")}
for policy, (batches, outer, inner) in found.items():
    print(f"{policy:<15} batches {batches}, counted {outer}, by the optimizer inside {inner}")
assert found["float32"] == found["mixed_bfloat16"] == (20, 20, 20)
batches, outer, inner = found["mixed_float16"]
assert outer == inner < batches, "it has changed"
PYTHON
echo "As described."
