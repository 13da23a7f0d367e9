"""Alignment at every k-th step: B's optimizer sees those gradients and nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import layers
from tfcredit.optimizers import PartitionedOptimizer
from tfcredit.training.trainer import Trainer

EVERY, STEPS, BATCH = 3, 8, 4
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


def network(rule="info_alignment"):
    keras.utils.set_random_seed(3)
    inner = layers.Dense(5, "tanh", rule=rule, seed=1)
    return keras.Sequential([keras.Input((6,)), inner, layers.Dense(3, rule=rule, seed=2)])


def data():
    x = np.random.default_rng(0).normal(size=(STEPS * BATCH, 6)).astype("float32")
    return x, np.arange(len(x)) % 3


def trainer(every=EVERY, rule="info_alignment", **options):
    model = network(rule)
    optimizer = PartitionedOptimizer(SGD(0.5, 0.9), Adam(0.02), feedback_rests=True)
    model.compile(optimizer)
    return Trainer(model, alignment_every=every, **options)


def batches(size=BATCH):
    return iter(tf.data.Dataset.from_tensor_slices(data()).batch(size, drop_remainder=True))


def info_gradient(x, layer):
    """dR/dB of the README's table, and R."""
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    y, n = x @ w, len(x)
    gradient = 2e-3 * (-x.T @ y / n + (y @ b.T).T @ y / n + b)
    loss = -np.sum(y * (x @ b)) / n + np.sum((y @ b.T) ** 2) / (2 * n) + np.sum(b**2) / 2
    return gradient, 2e-3 * loss


@pytest.fixture(scope="module")
def by_hand():
    """Weights after all steps, and R's mean: two optimizers that know nothing of each other."""
    model, forward, feedback = network(), SGD(0.5, 0.9), Adam(0.02)
    inner, outer = model.layers
    weights = [inner.kernel, inner.bias, outer.kernel, outer.bias]
    losses = []
    for step, (x, labels) in enumerate(batches()):
        with tf.GradientTape() as tape:
            logits = model(x)
            loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, [each.value for each in weights])
        if step % EVERY == 0:
            both = [info_gradient(x.numpy(), inner), info_gradient(inner(x).numpy(), outer)]
            losses.append(sum(loss for _, loss in both))
            kernels = [inner.feedback_kernel, outer.feedback_kernel]
            feedback.apply([gradient for gradient, _ in both], kernels)
        forward.apply(gradients, weights)
    return model.get_weights(), np.mean(losses)


@pytest.mark.every(3)
@pytest.mark.parametrize("runs", [[1] * STEPS, [STEPS], [5, 3], [2, 6]], ids=str)
def test_it_equals_an_optimizer_that_sees_every_kth_step(runs, by_hand):
    weights, loss = by_hand
    made, iterator, done = trainer(), batches(), 0
    for count in runs:
        assert made.run(iterator, count, first=done) == (count, False, False)
        done += count
    for one, other in zip(made.network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    optimizer = made.network.optimizer
    assert int(optimizer.iterations) == STEPS and int(optimizer.feedback.iterations) == 3
    assert made.results()["alignment_loss"] == pytest.approx(loss, rel=1e-5)


def test_accumulation_counts_optimizer_steps(by_hand):
    made = trainer(accumulation_steps=2)
    made.run(batches(BATCH // 2), STEPS)
    for one, other in zip(made.network.get_weights(), by_hand[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_1_is_every_step():
    one, default = trainer(every=1), trainer(every=1)
    default.alignment_every = 1000  # the first step of each call acts
    one.run(batches(), STEPS)
    iterator = batches()
    for _ in range(STEPS):
        default.run(iterator, 1, first=0)
    for a, b in zip(one.network.get_weights(), default.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def products(made, aligned):
    x, labels = next(batches())
    step = tf.function(lambda *given: made._take_step(*given, aligned=aligned))
    graph = step.get_concrete_function(x, labels, tf.zeros([2])).graph
    return sum(operation.type == "MatMul" for operation in graph.get_operations())


def test_a_step_at_rest_takes_no_product_for_r():
    fixed = Trainer(trainer(rule="feedback_alignment").network)
    assert products(trainer(), False) == products(fixed, True) == products(trainer(), True) - 4


def test_a_stretch_that_is_not_finite_ends_the_call():
    made = trainer()
    x, labels = data()
    x[2 * BATCH] = np.inf
    dataset = tf.data.Dataset.from_tensor_slices((x, labels)).batch(BATCH)
    good, _, _ = made.run(iter(dataset), STEPS)
    assert good == 2
