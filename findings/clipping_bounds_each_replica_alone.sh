#!/usr/bin/env bash
# Keras' clipping of gradients (`clipnorm`, `global_clipnorm`, `clipvalue`) on several replicas.
#
# One would guess: under MirroredStrategy the gradient of the batch is clipped, so that N devices
# train as one does on the same batch, and no step of SGD is longer than rate times bound.
# What happens: each replica clips its own share, which is 1/N of a mean, before the shares are
# added up. Shares that point one way give a step N times the bound; noisy ones are cut at another
# length than their sum, which turns the direction, too. A gradient of norm 1 spread over 2 replicas
# passes a bound of 0.5 unclipped. Without a bound both are equal to the last bits, so that nothing
# tells.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: steps of all optimizers and options compared with one device; `apply` of
# keras/src/optimizers/base_optimizer.py clips, `_backend_update_step` of the TensorFlow backend
# adds up. tensorflow issue 33929 of 2020 calls that order "usually wrong", which is why TensorFlow
# 2.0 to 2.2 refused it; of Keras 3 no report was found.
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
N = 4
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * N)
replicas = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(N)])
rng = np.random.default_rng(0)
x = rng.normal(size=(32, 10)).astype("float32")
one_way = np.full((32, 1), 50, "float32")
noisy = rng.normal(size=(32, 1)).astype("float32") * 50


def step(strategy, inputs, y, **bound):
    """The first step of SGD of rate 1."""
    with strategy.scope():
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((10,)), layer])
        model.compile(keras.optimizers.SGD(1.0, **bound), "mse")
    model.fit(inputs, y, batch_size=32, shuffle=False, verbose=0)
    return layer.kernel.numpy()[:, 0]


single = tf.distribute.get_strategy()
for name, inputs, y in (("one way", np.abs(x), one_way), ("noisy", x, noisy)):
    np.testing.assert_allclose(
        step(replicas, inputs, y), step(single, inputs, y), rtol=1e-4, atol=1e-4
    )
    for bound in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 0.5}):
        alone, shared = step(single, inputs, y, **bound), step(replicas, inputs, y, **bound)
        norms = np.linalg.norm(alone), np.linalg.norm(shared)
        cosine = alone @ shared / norms[0] / norms[1]
        print(f"{name}, {bound}: step {norms[0]:.2f} long on one device, {norms[1]:.2f} on {N},",
              f"at an angle of {np.degrees(np.arccos(min(cosine, 1))):.0f} degrees")
        if name == "one way":
            assert norms[1] > 0.95 * N * norms[0], "it has changed"
        else:
            assert norms[1] > 1.2 * norms[0] and cosine < 0.99, "it has changed"
PYTHON
echo "As described."
