"""Alignment terms see the kernels of before the step, in optimized graphs too."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers import toy
from tfcredit.optimizers import NoisyOptimizer, PartitionedOptimizer

SGD = keras.optimizers.SGD


class LateReader(toy.Toy):
    """Reads its kernel for the alignment only after everything else had time to run."""

    def call(self, inputs):
        wait = tf.numpy_function(lambda: np.float32(time.sleep(0.05) or 0), [], tf.float32)
        with tf.control_dependencies([wait]):
            kernel = self.kernel.value.read_value()
        distance = self.feedback_kernel - tf.stop_gradient(kernel)
        self.add_loss(0.5 * tf.reduce_sum(distance**2))
        return keras.layers.Dense.call(self, inputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PartitionedOptimizer(SGD(0.1), SGD(0.1)),
        lambda: NoisyOptimizer(SGD(0.1), variance=0.0),
        lambda: keras.optimizers.LossScaleOptimizer(PartitionedOptimizer(SGD(0.1), SGD(0.1))),
    ],
    ids=["partitioned", "noisy", "loss_scaled"],
)
def test_a_late_read_is_no_late_value(make):
    inputs = keras.Input((3,))
    network = keras.Model(inputs, LateReader(2)(inputs))
    network.compile(make(), "mse")
    x, y = toy.data(1)
    for _ in range(3):
        kernel, _, feedback = network.get_weights()
        network.train_on_batch(x, y)
        np.testing.assert_allclose(
            network.layers[-1].feedback_kernel, feedback - 0.1 * (feedback - kernel), atol=1e-6
        )
