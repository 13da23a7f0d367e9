"""The whole training step compiles with XLA, which is the nearest that a CPU comes to a TPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import models, optimizers, rules
from tfcredit.training.trainer import Trainer

NETWORKS = {
    "fc": (28, 28, 1),
    "conv": (28, 28, 1),
    "resnet8": (28, 28, 1),
    "resnet18": (224, 224, 3),
    "resnet50v2": (224, 224, 3),
}
LARGE = {"resnet18", "resnet50v2"}
RULES = [*rules.names(), "0.002 * amp + 0.001 * null"]
cases = [
    pytest.param(network, precision, rule, marks=[pytest.mark.slow] if network in LARGE else [])
    for network in NETWORKS
    for precision in ("float32", "mixed_bfloat16")
    for rule in RULES
    if network in LARGE or precision == "float32" or rule in ("info_alignment", "kolen_pollack")
]


@pytest.mark.parametrize("network, precision, rule", cases)
def test_the_step_compiles_whole(network, precision, rule):
    shape = NETWORKS[network]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = models.get(network, classes=10, input_shape=shape, rule=rule, seed=0)
    finally:
        keras.config.set_dtype_policy(before)
    learns = rules.get(rule).learns and not rules.get(rule).follows_forward
    forward = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    optimizer = optimizers.PartitionedOptimizer(forward, "adam") if learns else forward
    model.compile(optimizer)
    trainer = Trainer(model, jit_compile=True)
    images = np.random.RandomState(0).randn(4, *shape).astype("float32")
    batches = tf.data.Dataset.from_tensors((images[:2], tf.constant([1, 3]))).repeat()
    start = [np.array(w) for w in model.get_weights()]
    assert trainer.run(iter(batches), 2) == (2, False, False)
    end = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in end)
    assert any((a != b).any() for a, b in zip(start, end, strict=True))
    print(f"{network}, {rule}, {precision}: {model.count_params():,} parameters")
