#!/usr/bin/env bash
# TimeDistributed(BatchNormalization) over padded sequences with a mask.
#
# One would guess: padded steps count in no statistics. BatchNormalization takes the mask into its
# mean and variance, and TimeDistributed hands the mask on.
# What happens: the wrapper calls the layer once a step, and each call moves the averages. A step
# that is padding in the whole batch has no samples: its mean and variance are taken to be 0, and
# the averages move to 0. With 6 steps of 20 filled, as sequences padded to a fixed length are, the
# moving mean ends at 0.28 of the data's, and so does the variance, so that predictions are not
# normalized: a mean of 4 where it should be 0. Padding at the end comes last, and so weighs most.
# BatchNormalization on the sequences themselves, with the same mask, has the right averages; so has
# the wrapper without padding.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: layers compared under masks, alone and in wrappers; keras/src/layers/rnn/
# time_distributed.py, keras/src/layers/normalization/batch_normalization.py. That each
# step has statistics of its own is in keras #16239; of padding no report was found.
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
filled, steps = 6, 20
full = rng.normal(3.0, 1.0, size=(1600, steps, 4)).astype("float32")
padded = full.copy()
padded[:, filled:] = 0


def trained(wrap, sequences):
    """Moving mean and variance after 50 batches, and predictions for the filled steps."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((steps, 4))
    layer = keras.layers.BatchNormalization()
    wrapped = keras.layers.TimeDistributed(layer) if wrap else layer
    model = keras.Model(inputs, wrapped(keras.layers.Masking()(inputs)))
    model.compile(keras.optimizers.SGD(0.0), loss="mean_squared_error")
    model.fit(sequences, sequences, epochs=1 if wrap else 20, verbose=0)
    normalized = model.predict(sequences, verbose=0)[:, :filled]
    return float(np.mean(layer.moving_mean)), float(np.mean(layer.moving_variance)), normalized


results = {}
for wrap in (False, True):
    for name, sequences in (("full", full), ("padded", padded)):
        mean, variance, normalized = trained(wrap, sequences)
        results[wrap, name] = mean
        place = "in TimeDistributed" if wrap else "alone"
        print(f"{place:18} {name:6}: moving mean {mean:.2f} of 3,"
              f" variance {variance:.2f} of 1; predictions have mean {normalized.mean():.2f},"
              f" deviation {normalized.std():.2f}")
right = [mean for key, mean in results.items() if key != (True, "padded")]
np.testing.assert_allclose(right, 3.0, atol=0.1)
assert results[True, "padded"] < 1.0, "it has changed"
PYTHON
echo "As described."
