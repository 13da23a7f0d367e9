#!/usr/bin/env bash
# Dropout, noise and augmentation layers of Keras on several replicas.
#
# One would guess: under MirroredStrategy each replica draws masks of its own, so that a batch that
# is split over N devices has as many different masks as samples, as it has on one device. A
# `tf.random.Generator` that is made in the strategy's scope has a stream for each replica.
# What happens: each replica has a copy of the layer's seed state, all copies start alike and move
# alike, and all draw one mask: sample k of each replica loses the same units, in every layer and
# step, gets the same noise and the same augmentation. The noise of the N parts of a gradient is one
# and the same, so that the mean over replicas does not make it smaller: with one sample per device
# it is as strong as with a batch of one. Losses and shapes tell nothing.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: layers on two replicas and on one device compared; `SeedGenerator` of
# keras/src/random/seed_generator.py makes its state with aggregation "none" since keras pull
# request 20612, which mends an error and takes this for what TensorFlow's generators do. No report
# of it was found.
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
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
single = tf.distribute.OneDeviceStrategy("CPU:0")
layers = keras.layers

with mirrored.scope():
    random_layers = [
        layers.Dropout(0.5), layers.GaussianNoise(1.0), layers.SpatialDropout1D(0.5),
        layers.RandomTranslation(0.3, 0.3),
    ]
inputs = [tf.ones((4, 50)), tf.zeros((4, 50)), tf.ones((4, 5, 20)),
          tf.reshape(tf.range(4 * 8 * 8, dtype="float32"), (4, 8, 8, 1))]
for layer, value in zip(random_layers, inputs):

    @tf.function(autograph=False)
    def step():
        return mirrored.run(layer, (value,), {"training": True})

    before = None
    for _ in range(3):
        first, second = (each.numpy() for each in mirrored.experimental_local_results(step()))
        assert np.array_equal(first, second), "it has changed"
        assert before is None or not np.array_equal(first, before)
        before = first
    print(f"{type(layer).__name__}: the same on both replicas, in each of 3 different steps")


with mirrored.scope():
    generator = tf.random.Generator.from_seed(1)
streams = mirrored.experimental_local_results(mirrored.run(generator.uniform, ((3,),)))
print("tf.random.Generator on both replicas:", *(stream.numpy().round(3) for stream in streams))
assert not np.array_equal(*streams)


def dropped(strategy):
    """By how many of 2 samples each unit was dropped, as the gradient of one step of fit has it."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        dense = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((1000,)), layers.Dropout(0.5), dense])
        model.compile(keras.optimizers.SGD(1.0), loss=lambda truth, outputs: -outputs)
    model.fit(np.ones((2, 1000)), np.zeros((2, 1)), batch_size=2, verbose=0)
    return np.bincount(2 - dense.kernel.numpy().ravel().round().astype(int), minlength=3)


for name, strategy in (("one device", single), ("two replicas", mirrored)):
    counts = dropped(strategy)
    print(f"{name}, 2 samples, 1,000 units: {counts[0]} dropped in neither, {counts[1]} in one,",
          f"{counts[2]} in both")
    assert (400 < counts[1] < 600) if strategy is single else counts[1] == 0, "it has changed"
PYTHON
echo "As described."
