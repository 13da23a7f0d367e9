#!/usr/bin/env bash
# A shuffled and augmented grain dataset in Keras' `fit`, over epochs.
#
# One would guess: each epoch of `fit(dataset, epochs=3)` has another order and other augmentations,
# as with tf.data's `shuffle` and random `map`, and with a DataLoader of PyTorch. grain's docstring
# of `shuffle` has "In multi-epoch training each epoch will be shuffled differently".
# What happens: `fit` starts a new iterator each epoch. grain's datasets are functions of an index,
# and an iterator starts at 0: each epoch has the first one's order, batches and random numbers.
# An image is augmented once, in effect, whatever the number of epochs. Keras warns that its own
# `shuffle=True` is ignored, "The grain dataset is expected to already be shuffled", which it is.
# `dataset.repeat()` with `steps_per_epoch` goes on through the orders; `repeat` has to come before
# `batch` and after `shuffle`.
#
# Versions: Keras 3.15.1, grain 0.2.18, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11.
# Date: 2026-12-01.
# Source: batches of a training written down; keras/src/trainers/data_adapters/
# grain_dataset_adapter.py. google/grain issue 572 asks for epochs of grain's own loader; of Keras
# no report was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'grain==0.2.18' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import grain
import keras
import numpy as np
import tensorflow as tf

print("keras", keras.__version__, "tensorflow", tf.__version__,
      "grain", importlib.metadata.version("grain"))
RECORDS, EPOCHS = 8, 3


class Diary(keras.Model):
    """Writes down what it is trained on."""

    def __init__(self):
        super().__init__()
        self.pages = []

    def train_step(self, data):
        self.pages.append(np.array(data[0]))
        return {"loss": 0.0}


def epochs(dataset, **arguments):
    """Of each epoch the order of the records, and the random number beside each."""
    model = Diary()
    model.compile(run_eagerly=True)
    model.fit(dataset, epochs=EPOCHS, verbose=0, **arguments)
    pages = np.concatenate(model.pages).reshape(EPOCHS, RECORDS, 2)
    return pages[:, :, 0].astype(int), pages[:, :, 1]


def pair(value):
    return value, np.float32(0)


records = grain.MapDataset.range(RECORDS).seed(1).shuffle()


def augmented(dataset):
    with_noise = dataset.random_map(lambda k, rng: np.array([k, rng.random()], "float32"))
    return with_noise.map(pair).batch(4)


def show(name, orders, numbers):
    same = bool((orders == orders[0]).all())
    again = bool((np.sort(numbers) == np.sort(numbers[0])).all())
    print(f"{name}: orders", *(order.tolist() for order in orders),
          "same order:", same, "same random numbers:", again)
    return same, again


plain = show("shuffle", *epochs(augmented(records)))
stream = show("as an IterDataset", *epochs(augmented(records).to_iter_dataset()))
repeated = show("shuffle, repeat", *epochs(augmented(records.repeat()), steps_per_epoch=2))
tensors = tf.data.Dataset.range(RECORDS).shuffle(RECORDS, seed=1).map(
    lambda k: tf.stack([tf.cast(k, tf.float32), tf.random.uniform([])])
).map(lambda value: (value, 0.0)).batch(4)
usual = show("tf.data", *epochs(tensors))
assert plain == stream == (True, True), "it has changed"
assert repeated == usual == (False, False), "it has changed"
PYTHON
echo "As described."
