#!/usr/bin/env bash
# Moving averages of weights (`use_ema=True`) where gradients are added up over batches.
#
# One would guess: with `gradient_accumulation_steps=k` all goes on as with batches k times as
# large, averages included: `ema_momentum` is per update, for the documentation says "EMA frequency
# will look at accumulated iterations".
# What happens: the average moves at each batch, also at those that change no weight: a momentum of
# m is one of m^k. At 0.99 and 32 batches the averages' memory is 3 updates in place of 100. And
# `ema_overwrite_frequency` writes averages into the weights at the first of the k batches that make
# an update, so that the gradients which are added up are of different weights. Schedules of
# learning rates count batches, too, which is documented.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all optimizers and options compared with the same gradients given k times;
# `_backend_apply_gradients` of keras/src/optimizers/base_optimizer.py. No report of it was found.
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
momentum, updates, k = 0.9, 12, 8
gradients = np.random.default_rng(0).normal(size=updates).astype("float32")


def train(repeats, frequency=None, **options):
    """The weight after each batch, and the average at the end."""
    optimizer = keras.optimizers.SGD(
        0.1, use_ema=True, ema_overwrite_frequency=frequency, **options
    )
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    seen = []
    for gradient in np.repeat(gradients, repeats):
        optimizer.apply([tf.constant(gradient)], [weight])
        seen.append(float(weight))
    return np.array(seen), float(optimizer._model_variables_moving_average[0])


def expected(weights, momentum):
    average = weights[0]
    for weight in weights[1:]:
        average = momentum * average + (1 - momentum) * weight
    return average


large, average = train(1, ema_momentum=momentum)
options = {"gradient_accumulation_steps": k, "ema_momentum": momentum}
small, accumulated = train(k, **options)
np.testing.assert_allclose(small[k - 1 :: k], large, rtol=1e-5, err_msg="the weights are the same")
print(f"average of {updates} updates by momentum {momentum}: {average:.4f}; of the same updates,",
      f"each of {k} batches: {accumulated:.4f}; by momentum {momentum}^{k}:",
      f"{expected(large, momentum**k):.4f}")
assert abs(average - expected(large, momentum)) < 1e-5
# The last update is averaged once so far, those before it k times
before = expected(large[:-1], momentum**k)
np.testing.assert_allclose(
    accumulated, momentum * before + (1 - momentum) * large[-1], rtol=1e-4, err_msg="it has changed"
)

small, _ = train(k, frequency=5, **options)
changes = np.flatnonzero(np.abs(np.diff(small, prepend=1.0)) > 1e-7) + 1
between = [int(batch) for batch in changes if batch % k]
print(f"batches between updates that change the weight, by ema_overwrite_frequency=5: {between}")
assert between == [4 * k + 1, 9 * k + 1], "it has changed"
PYTHON
echo "As described."
