#!/usr/bin/env bash
# Validation of a network whose recurrent layers have dropout, in the middle of its training.
#
# One would guess: `evaluate`, `predict` and `validation_data` change nothing of a network, so that
# a seeded training has the same weights with them as without, as it has with Dropout layers.
# What happens: LSTM, GRU and the others draw their masks, of `dropout` as of `recurrent_dropout`,
# before they ask whether they are trained. In a validation the mask is thrown away, but the layer's
# seed has moved on, once for each batch, so that the masks of the next epoch are others. How often
# and on how much data one validates decides what is learned.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all layers called with training=False, and their variables compared; `call` of
# keras/src/layers/rnn/rnn.py, `get_dropout_mask` of dropout_rnn_cell.py. ConvLSTM layers and some
# augmentations (RandomHue, RandomSaturation, RandomSharpness, MixUp) do it, too. No report was
# found.
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
x = rng.normal(size=(64, 10, 3)).astype("float32")
y = rng.normal(size=(64, 1)).astype("float32")
others = rng.normal(size=(32, 10, 3)).astype("float32")


def trained(make, validate):
    """The weights after two epochs, with or without a look at other data between them."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((10, 3)), *make(), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    for _ in range(2):
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        if validate:
            model.evaluate(others, np.zeros((32, 1)), batch_size=16, verbose=0)
    return model.get_weights()


layers = keras.layers
networks = {
    "LSTM, no dropout": lambda: [layers.LSTM(8)],
    "Dropout, then LSTM": lambda: [layers.Dropout(0.3), layers.LSTM(8)],
    "LSTM(dropout)": lambda: [layers.LSTM(8, dropout=0.3)],
    "GRU(recurrent_dropout)": lambda: [layers.GRU(8, recurrent_dropout=0.3)],
}
for name, make in networks.items():
    pairs = list(zip(trained(make, False), trained(make, True), strict=True))
    difference = max(float(np.abs(one - other).max()) for one, other in pairs)
    again = max(float(np.abs(one - other).max())
                for one, other in zip(trained(make, True), trained(make, True), strict=True))
    print(f"{name}: evaluating after each epoch changes the weights by {difference:.1e}; "
          f"repeating it by {again:.0e}")
    assert (difference > 1e-4) == ("(" in name), "it has changed"
    assert again < 1e-6

layer = layers.LSTM(8, dropout=0.3, seed=1)
layer(x, training=False)
before = keras.ops.convert_to_numpy(layer.cell.seed_generator.state).copy()
layer(x, training=False)
after = keras.ops.convert_to_numpy(layer.cell.seed_generator.state).copy()
print("seed state before and after a call with training=False:", before, after)
assert not np.array_equal(before, after), "it has changed"
PYTHON
echo "As described."
