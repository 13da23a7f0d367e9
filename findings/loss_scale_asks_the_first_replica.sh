#!/usr/bin/env bash
# Float16's loss scale on several replicas where one of them overflows.
#
# One would guess: under MirroredStrategy a step is skipped on all replicas if the gradients of any
# of them are not finite, as it is on one device with the whole batch.
# What happens: Keras' LossScaleOptimizer asks whether the *first* replica's gradients are finite;
# its comment says that they are summed over the replicas by then, which they are only later. Where
# the second replica overflows and the first does not, the sum is applied: weights become infinite,
# the scale is not halved, the step counts. The other way round the step is skipped.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-30.
# Source: `_tf_apply` of keras/src/optimizers/loss_scale_optimizer.py, read and run; no report of it
# was found (keras issues 18666 and 21366 are of errors).
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


def step(devices, large):
    """One step of a training in float16, with a large number in one half of the batch."""
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        dtype = "mixed_float16"
        layer = keras.layers.Dense(1, kernel_initializer="ones", dtype=dtype)
        model = keras.Sequential([keras.Input((4,), dtype="float32"), layer])
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-3))
        model.compile(scaled, "mse")
    x = np.ones((8, 4), "float32")
    x[4 * large : 4 * large + 4] = 1000.0
    targets = np.full((8, 1), 4.0, "float32")  # what the network gives for the other half
    model.fit(tf.data.Dataset.from_tensors((x, targets)), verbose=0)
    scale = float(keras.ops.convert_to_numpy(scaled.dynamic_scale.value))
    return layer.kernel.numpy().ravel().tolist(), scale


for large in (0, 1):
    alone, mirrored = step(["CPU:0"], large), step(["CPU:0", "CPU:1"], large)
    print(f"overflow in half {large + 1}: one device, kernel {alone[0]}, scale {alone[1]:.0f};")
    print(f"  two replicas, kernel {mirrored[0]}, scale {mirrored[1]:.0f}")
    assert alone == ([1.0] * 4, 2.0**14), "the overflow is skipped and the scale halved"
    if large == 0:
        assert mirrored == alone
    else:
        assert not np.isfinite(mirrored[0]).any() and mirrored[1] == 2.0**15, "it has changed"
PYTHON
echo "As described."
