"""Plain `fit` under replicas: R is neither mixed up nor dropped."""

import numpy as np
import pytest

SCRIPT = """
import sys
import keras, numpy as np
from tfcredit.layers import Conv2D, Dense

def make():
    keras.utils.set_random_seed(1)
    rule = "info_alignment"
    model = keras.Sequential([
        keras.Input((8, 8, 3)),
        Conv2D(4, 3, rule=rule, seed=1), keras.layers.BatchNormalization(synchronized=True),
        keras.layers.ReLU(),
        Conv2D(4, 3, rule=rule, seed=2), keras.layers.BatchNormalization(synchronized=True),
        keras.layers.Flatten(), Dense(10, rule=rule, seed=3),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    return model

random = np.random.RandomState(0)
data = tf.data.Dataset.from_tensor_slices(
    (random.randn(48, 8, 8, 3).astype("float32"), np.arange(48) % 10)).batch(16)
alone = make()
with strategy.scope():
    mirrored = make()
for model in (alone, mirrored):
    model.fit(data, epochs=2, shuffle=False, verbose=0)
pairs = zip(alone.get_weights(), mirrored.get_weights(), strict=True)
np.save(sys.argv[1], max(np.abs(a - b).max() for a, b in pairs))
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_synchronised_batch_norm_leaves_every_replica_its_losses(two_cpus, tmp_path):
    two_cpus(SCRIPT, str(tmp_path / "difference.npy"))
    assert np.load(tmp_path / "difference.npy") < 2e-6  # 6 steps; 7e-3 with Keras' own list
