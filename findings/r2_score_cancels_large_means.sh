#!/usr/bin/env bash
# Keras' metric R2Score, of targets whose mean is large beside their deviation.
#
# One would guess: the share of variance that a network explains does not depend on where zero is;
# in float32 it is right to some digits, as MeanSquaredError of the same numbers is.
# What happens: the metric adds up the targets' squares in float32, and takes the variance as the
# difference of that sum and the mean's square. At a mean of 1,000 deviations (years, kelvins,
# pressures, coordinates) and 50,000 samples it shows 0.49 where 0.75 is true, at 3,000 0.94. It may
# show a bad network as good, changes with the size of the validation set, and warns of nothing.
# With a mean of zero it is right.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all metrics of regression compared with their formulas in float64; keras/src/metrics/
# regression_metrics.py. The same is known of other libraries (pytorch/ignite pull request 3836); of
# Keras no report was found: keras issue 21065 and pull request 23420 are of other targets.
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


def compared(mean, count):
    """R2 by the metric, in batches of 100, and by its formula in float64, of the same numbers."""
    targets = (mean + rng.normal(size=(count, 1))).astype("float32")
    outputs = (targets + 0.5 * rng.normal(size=targets.shape)).astype("float32")
    metric, squares = keras.metrics.R2Score(), keras.metrics.MeanSquaredError()
    for start in range(0, count, 100):
        batch = slice(start, start + 100)
        metric.update_state(targets[batch], outputs[batch])
        squares.update_state(targets[batch], outputs[batch])
    y, p = targets.astype("float64"), outputs.astype("float64")
    true = 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    np.testing.assert_allclose(float(squares.result()), ((y - p) ** 2).mean(), rtol=1e-3)
    return float(metric.result()), float(true)


print("targets of deviation 1, outputs off by 0.5")
for mean, count in ((0, 50_000), (100, 50_000), (1_000, 5_000), (1_000, 50_000), (3_000, 50_000)):
    found, true = compared(mean, count)
    print(f"mean {mean:5}, {count:6} samples: R2Score {found:8.4f}, true {true:.4f}")
    if mean == 0:
        assert abs(found - true) < 1e-3
    if mean >= 1_000 and count == 50_000:
        assert abs(found - true) > 0.05, "it has changed"
PYTHON
echo "As described."
