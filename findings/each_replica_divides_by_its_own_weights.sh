#!/usr/bin/env bash
# Losses of masked sequences, and of weighted samples, on several replicas.
#
# One would guess: under MirroredStrategy the loss of a batch is that of one device, whatever its
# samples weigh: the sum over all steps that count, divided by their number.
# What happens: each replica divides by what counts in its own part, and the parts are averaged. Of
# a batch whose sequences have 1 step on one replica and 9 on the other, the one step counts as much
# as the nine, in the loss that is shown, in `evaluate`, and in the gradient. A replica whose
# sequences are all padding halves the step. So it is with `reduction="mean_with_sample_weight"`:
# weights count within their replica only. Samples sorted by length or weight are off most. On one
# device all is as guessed, and `sample_weight` with the usual reduction is right on several, too.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: losses of all reductions compared with one device; `reduce_values` of
# keras/src/losses/loss.py. The guide keras.io/guides/distributed_training_with_tensorflow makes one
# guess so ("identical to what you would see for single-device training"). That replicas average
# their means is known of uneven batches; of masks in even ones no report was found.
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
replicas = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
STEPS = 9
x = np.full((2, STEPS, 1), -1, "float32")  # -1 is padding
targets = np.zeros((2, STEPS, 1), "float32")


def step(strategy, lengths, weights=None, reduction="sum_over_batch_size", masked=True):
    """Loss and step of a bias, where errors of the first sequence are 1, of the second 2."""
    inputs = x.copy()
    for index, length in enumerate(lengths):
        inputs[index, :length] = index + 1
    with strategy.scope():
        layers = [keras.layers.Masking(-1)] if masked else []
        last = keras.layers.Dense(1, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((STEPS, 1)), *layers, last])
        loss = keras.losses.MeanSquaredError(reduction=reduction)
        model.compile(keras.optimizers.SGD(0.5), loss)
    if weights is not None:
        weights = np.array(weights, "float32")[:, None]
    history = model.fit(inputs, targets, sample_weight=weights, batch_size=2, verbose=0).history
    return history["loss"][0], -float(last.bias.numpy()[0])


single = tf.distribute.get_strategy()
full = {"lengths": (STEPS, STEPS), "masked": False}
cases = {
    "even lengths": ({"lengths": (9, 9)}, 2.5, 1.5, 2.5, 1.5),
    "1 and 9 steps": ({"lengths": (1, 9)}, 3.7, 1.9, 2.5, 1.5),
    "9 steps and none": ({"lengths": (9, 0)}, 1, 1, 0.5, 0.5),
    "weights 1 and 9, mean_with_sample_weight": (
        {**full, "weights": (1, 9), "reduction": "mean_with_sample_weight"}, None, None, 2.5, 1.5,
    ),
    "weights 1 and 9": ({**full, "weights": (1, 9)}, 18.5, 9.5, 18.5, 9.5),
}
for name, (arguments, loss, length, shared_loss, shared_length) in cases.items():
    one, two = step(single, **arguments), step(replicas, **arguments)
    print(f"{name}: loss {one[0]:.2f}, step {one[1]:.2f} on one device;",
          f"{two[0]:.2f}, {two[1]:.2f} on two replicas")
    if loss is not None:
        np.testing.assert_allclose(one, (loss, length), rtol=1e-4)
        np.testing.assert_allclose(two, (shared_loss, shared_length), rtol=1e-4, err_msg="changed")
    else:
        # (1 * 1 + 9 * 4) / 10 on one device, up to the steps that a weight is spread over
        assert abs(one[0] / two[0] - 3.7 / 2.5) < 1e-4, "it has changed"
        assert abs(one[1] / two[1] - 1.9 / 1.5) < 1e-4, "it has changed"
PYTHON
echo "As described."
