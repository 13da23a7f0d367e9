#!/usr/bin/env bash
# The moving averages of Keras' BatchNormalization on several replicas.
#
# One would guess: under MirroredStrategy each replica normalizes by its part of the batch, and the
# moving averages are means over replicas, as in tf.keras 2, so that a trained network has one set.
# What happens: Keras 3 makes them without aggregation, and each replica moves its own. `predict`
# and `evaluate` use the averages of the replica that a sample falls to: one image twice in a batch
# gets two predictions. `get_weights`, a saved file and a checkpoint hold those of the first
# replica, which has seen 1/N of the data, so that what a run evaluated is what no file holds, and a
# continued run evaluates otherwise. Where data are sorted within batches the averages differ a lot.
# A replica that gets no sample of the last batch makes its averages NaN, which no file shows, and
# gamma's gradient, so that the next epoch is lost. `synchronized=True` has one set, and no NaN.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: averages and predictions compared with one device. Keras' guide has replicas that "stay in
# sync after each batch they process" (keras.io/guides/distributed_training_with_tensorflow).
# tensorflow issue 52986 is of an empty replica in 2.5; of the averages no report was found.
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
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 3)).astype("float32")
y = rng.normal(size=(64, 1)).astype("float32")
image_twice = np.repeat(x[:1], 2, axis=0)


def train(samples, **options):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        norm = keras.layers.BatchNormalization(momentum=0.9, **options)
        model = keras.Sequential([keras.Input((3,)), norm, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01), "mse")
    history = model.fit(x[:samples], y[:samples], batch_size=8, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    return norm, model


for synchronized in (False, True):
    norm, model = train(64, synchronized=synchronized)
    averages = np.stack([one.numpy() for one in norm.moving_mean.value.values])
    batches = x.reshape(8, 8, 3)
    expected = np.zeros((2, 3))
    for batch in batches:
        halves = np.stack([batch[:4].mean(0), batch[4:].mean(0)])
        expected = 0.9 * expected + 0.1 * (batch.mean(0) if synchronized else halves)
    np.testing.assert_allclose(averages, expected, atol=1e-5, err_msg="it has changed")
    model.save("model.keras")
    saved = keras.models.load_model("model.keras").layers[0].moving_mean.numpy()
    predicted = model.predict(image_twice, batch_size=2, verbose=0)[:, 0]
    print(f"synchronized={synchronized}: moving means of the replicas", averages.round(3).tolist())
    print(f"  saved are {saved.round(3).tolist()}; one image twice is predicted as", predicted)
    np.testing.assert_array_equal(saved, averages[0])
    assert (abs(predicted[0] - predicted[1]) > 0.01) != synchronized, "it has changed"

norm, model = train(9)
averages = [one.numpy().tolist() for one in norm.moving_mean.value.values]
print("9 samples in batches of 8: moving means", averages, "gamma", norm.gamma.numpy())
assert np.isfinite(averages[0]).all() and np.isnan(averages[1]).all(), "it has changed"
assert np.isnan(norm.gamma.numpy()).all(), "it has changed"
norm, model = train(9, synchronized=True)
assert all(np.isfinite(one.numpy()).all() for one in norm.moving_mean.value.values)
assert np.isfinite(norm.gamma.numpy()).all()
PYTHON
echo "As described."
