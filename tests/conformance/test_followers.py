"""Kernels that follow the forward kernel: they get exactly its update."""

import keras
import numpy as np
import pytest

from tests.conformance.descriptors import compile_network, feedback_layers, network, train
from tfcredit.optimizers import PartitionedOptimizer

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, 0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.05, 0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "partitioned": lambda: PartitionedOptimizer(
        forward=keras.optimizers.Adam(0.01), feedback=keras.optimizers.SGD(1.0)
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.every(5)
def test_kolen_pollack_without_decay_keeps_the_difference(optimizer):
    model = compile_network(network("kolen_pollack(decay=0.0)"), OPTIMIZERS[optimizer]())
    mine = feedback_layers(model)
    before = [(each.kernel.numpy(), each.feedback_kernel.numpy()) for each in mine]
    train(model, 10)
    for each, (kernel, feedback) in zip(mine, before, strict=True):
        assert np.abs(each.kernel.numpy() - kernel).max() > 1e-3
        difference = each.feedback_kernel.numpy() - each.kernel.numpy()
        np.testing.assert_allclose(difference, feedback - kernel, rtol=0, atol=2e-6)


def test_kolen_pollack_with_shared_decay_closes_the_difference():
    rule = "kolen_pollack(decay=0.2, inputs={'update_forward': True})"
    model = compile_network(network(rule), keras.optimizers.SGD(0.1))
    mine = feedback_layers(model)

    def difference():
        return [each.feedback_kernel.numpy() - each.kernel.numpy() for each in mine]

    before = difference()
    train(model, 10)
    for now, then in zip(difference(), before, strict=True):
        np.testing.assert_allclose(now, 0.98**10 * then, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["usf", "brsf", "frsf"])
def test_sign_symmetry_has_the_signs_of_the_last_call(variant):
    model = compile_network(network(variant))
    mine = feedback_layers(model)
    train(model, 2)
    kernels = [each.kernel.numpy() for each in mine]
    train(model, 1, first=2)
    for each, kernel in zip(mine, kernels, strict=True):
        signs = np.where(kernel < 0, -1.0, 1.0)
        assert (np.sign(each.feedback_kernel.numpy()) == signs).all()


@pytest.mark.parametrize("rule", ["calibrated_mirror", "calibrated_activation"])
def test_calibrated_rules_follow_w_in_training(rule):
    model = compile_network(network(rule), keras.optimizers.SGD(0.002))
    mine = feedback_layers(model)
    for _ in range(12):
        train(model, 10)
    for each in mine:
        w, b = each.kernel.numpy().ravel(), each.feedback_kernel.numpy().ravel()
        cosine = w @ b / np.linalg.norm(w) / np.linalg.norm(b)
        assert np.degrees(np.arccos(min(cosine, 1.0))) < 12
