"""Fine-tune a Keras network by a local rule, with Keras' callbacks, and hand on a plain network.

python examples/fine_tune.py FOLDER
"""

import pathlib
import sys

import keras

from tfcredit import callbacks, convert, data

folder = pathlib.Path(sys.argv[1])
keras.utils.set_random_seed(0)
images = data.get("embedded", augment=False).hold_out(2000)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# What somebody else has trained: a network of Keras' own layers, after a short epoch.
inputs = keras.Input(images.input_shape)
hidden = keras.layers.Dense(64, "relu", name="hidden")(keras.layers.Flatten()(inputs))
theirs = keras.Model(inputs, keras.layers.Dense(10, name="logits")(hidden))
theirs.compile("adam", loss)
theirs.fit(images.train(250, seed=0, epoch=0).take(20), verbose=0, shuffle=False)

model = convert.to_feedback(theirs, "tracking_mirror", seed=0)
model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
batches = images.train(250, seed=0, epoch=1).concatenate(images.train(250, seed=0, epoch=2))
watchers = [
    keras.callbacks.ModelCheckpoint(folder / "best.keras", "val_loss", save_best_only=True),
    keras.callbacks.EarlyStopping("val_loss", patience=1),
    callbacks.RunDirectory(folder / "run", dataset="embedded", seed=0),  # for `tfcredit report`
]
plan = {"epochs": 2, "shuffle": False, "steps_per_epoch": images.steps_per_epoch(250)}
model.fit(batches, validation_data=images.validation(500), callbacks=watchers, verbose=2, **plan)

plain = convert.to_backprop(keras.saving.load_model(folder / "best.keras"))
plain.save(folder / "plain.keras")  # needs no tfcredit
