"""The whole training step compiles with XLA, which is the nearest that a CPU comes to a TPU."""

import concurrent.futures
import multiprocessing

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import QUICK, SPECIAL
from tests.crossing import crossed
from tfcredit import models, optimizers, rules
from tfcredit.training.trainer import Trainer

NETWORKS = {
    "fc": (28, 28, 1),
    "conv": (28, 28, 1),
    "resnet8": (28, 28, 1),
    "resnet18": (224, 224, 3),
    "resnet50v2": (224, 224, 3),
}
# A program that XLA has compiled stays mapped until its process ends, whatever is deleted: 660
# areas of memory for ResNet-8. Linux allows a process 65,530 and TensorFlow 2.21 crashed at them,
# behind 166 networks.
PROGRAMS_PER_PROCESS = 16
RULES = [SPECIAL.get(name, name) for name in rules.names() if name != "alignment"]
RULES += ["0.002 * amp + 0.001 * null"]


def is_quick(network, precision, rule):
    if network.startswith("resnet"):
        return False
    if rule == "node_perturbation":  # XLA takes its time over two runs with noise
        return False
    if (network, precision) == ("fc", "float32"):  # tests/conformance compiles each rule's layers
        return rule in {*QUICK, "info_alignment", RULES[-1]}
    chosen = {"float32": "info_alignment", "mixed_bfloat16": "calibrated_activation"}
    return rule == chosen[precision]


def count_flops(trainer, images, labels):
    """Floating-point operations of a whole training step, as TensorFlow's profiler counts them."""
    step = tf.function(trainer._take_step).get_concrete_function(images, labels, tf.zeros([2]))
    profile = tf.compat.v1.profiler
    options = profile.ProfileOptionBuilder(profile.ProfileOptionBuilder.float_operation())
    quiet = options.with_empty_output().build()
    return profile.profile(step.graph, options=quiet).total_float_ops


def runs(network, precision, rule):
    return rule != "node_perturbation" or network in ("fc", "conv")  # none with batch norm


cases = crossed(NETWORKS, ("float32", "mixed_bfloat16"), RULES, quick=is_quick)


class Processes:
    """Calls functions in a process of its own, and in a fresh one after some calls."""

    def __init__(self):
        self.calls, self.pool = 0, None

    def __call__(self, function, *arguments):
        if self.calls % PROGRAMS_PER_PROCESS == 0:
            self.close()
            context = multiprocessing.get_context("spawn")
            self.pool = concurrent.futures.ProcessPoolExecutor(1, context)
        self.calls += 1
        return self.pool.submit(function, *arguments).result()

    def close(self):
        if self.pool:
            self.pool.shutdown()


@pytest.fixture(scope="module")
def elsewhere():
    processes = Processes()
    yield processes
    processes.close()


@pytest.mark.every(12)
@pytest.mark.parametrize("network, precision, rule", [case for case in cases if runs(*case.values)])
def test_the_step_compiles_whole(network, precision, rule, elsewhere):
    print(elsewhere(train_compiled, network, precision, rule))


def train_compiled(network, precision, rule):
    """Two compiled steps change finite weights; returns what a step computes, in words."""
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
    parameters = model.count_params()
    flops = count_flops(trainer, images[:2], tf.constant([1, 3])) / 2
    assert flops > 2 * parameters  # no weight takes part in less than one multiply-add
    return f"{network}, {rule}, {precision}: {parameters:,} parameters, {flops:.4g} FLOPs an image"
