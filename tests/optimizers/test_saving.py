"""Saving, loading and continuing, for every optimizer of the package."""

import contextlib
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers import toy
from tfcredit.errors import UserError
from tfcredit.optimizers import NoisyOptimizer, PartitionedOptimizer
from tfcredit.schedules import WarmupStepDecay

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


def partitioned():
    schedule = WarmupStepDecay(0.1, 4, 1.0, (2.0,), (0.1,))
    return PartitionedOptimizer(SGD(schedule, momentum=0.9, nesterov=True), Adam(0.02))


def noisy():
    return NoisyOptimizer(partitioned(), variance=0.01, seed=5)


def noisy_part():
    return PartitionedOptimizer("momentum", NoisyOptimizer("adam", variance=0.01, seed=5))


def loss_scaled():
    return keras.optimizers.LossScaleOptimizer(noisy())


def accumulating():
    parts = (SGD(0.1, gradient_accumulation_steps=3), Adam(0.1, gradient_accumulation_steps=3))
    return PartitionedOptimizer(*parts)


MAKERS = [partitioned, noisy_part, loss_scaled, accumulating]
make = pytest.mark.parametrize("make", MAKERS)


@functools.cache
def straight(make):
    """Weights and optimizer state of a run that nothing interrupts."""
    network = toy.fit(toy.model(make()), epochs=3)
    return toy.weights(network), toy.state(network.optimizer)


def assert_straight(network, make):
    weights, state = straight(make)
    toy.assert_same(toy.weights(network), weights)
    toy.assert_same(toy.state(network.optimizer), state)


@pytest.mark.every(3)
@make
def test_keras_file_continues_alike(make, tmp_path):
    first = toy.fit(toy.model(make()), epochs=1)
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    toy.assert_same(toy.state(second.optimizer), toy.state(first.optimizer))
    assert_straight(toy.fit(second, epochs=2), make)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("make", "built"), [(make, True) for make in MAKERS] + [(loss_scaled, False)]
)
def test_checkpoint_holds_everything(make, built, tmp_path):
    first = toy.fit(toy.model(make()), epochs=1)
    path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).save(tmp_path / "point")
    second = toy.model(make(), seed=9)
    if built:
        second.optimizer.build(second.trainable_variables)
    status = tf.train.Checkpoint(model=second, optimizer=second.optimizer).restore(path)
    if built:
        status.assert_consumed()
        toy.assert_same(toy.state(second.optimizer), toy.state(first.optimizer))
    assert_straight(toy.fit(second, epochs=2), make)


@make
def test_config_round_trip(make):
    first = make()
    config = keras.optimizers.serialize(first)
    text = json.dumps(config)
    again = keras.optimizers.deserialize(json.loads(text))
    assert json.dumps(keras.optimizers.serialize(again)) == text


def test_parts_as_names_and_configs():
    config = keras.optimizers.serialize(Adam(0.02))
    kept = json.dumps(config)
    optimizer = PartitionedOptimizer("Momentum", config)
    assert optimizer.forward.momentum == 0.9 and optimizer.forward.nesterov
    assert float(optimizer.feedback.learning_rate) == pytest.approx(0.02)
    assert json.dumps(config) == kept


def test_custom_inner_optimizer_needs_its_class():
    class Halving(SGD):
        pass

    config = PartitionedOptimizer(Halving(0.5), "sgd").get_config()
    again = PartitionedOptimizer.from_config(config, custom_objects={"Halving": Halving})
    assert type(again.forward) is Halving


def test_weights_as_arrays():
    first = toy.fit(toy.model(noisy()))
    second = toy.model(noisy())
    with pytest.raises(UserError, match="not built"):
        second.optimizer.set_weights(toy.state(first.optimizer))
    second.optimizer.build(second.trainable_variables)
    second.optimizer.set_weights(toy.state(first.optimizer))
    toy.assert_same(toy.state(second.optimizer), toy.state(first.optimizer))


@contextlib.contextmanager
def float16():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_mixed_float16(tmp_path):
    with float16():
        first = toy.fit(toy.model(noisy()))
        assert isinstance(first.optimizer, keras.optimizers.LossScaleOptimizer)
        first.save(tmp_path / "model.keras")
        second = keras.models.load_model(tmp_path / "model.keras")
        toy.assert_same(toy.weights(toy.fit(second)), toy.weights(toy.fit(first)))
        toy.assert_same(toy.state(second.optimizer), toy.state(first.optimizer))


@pytest.mark.slow
def test_mixed_float16_is_near_float32():
    exact = toy.fit(toy.model(noisy()), epochs=3)
    with float16():
        # With the default scale the first steps of so small a network overflow and are skipped.
        scaled = keras.optimizers.LossScaleOptimizer(noisy(), initial_scale=64.0)
        network = toy.fit(toy.model(scaled), epochs=3)
    toy.assert_same(toy.weights(network), toy.weights(exact), atol=0.02)


@pytest.mark.parametrize("mode", [{}, {"jit_compile": True}], ids=["graph", "jit"])
@pytest.mark.every(2)
def test_overflow_skips_the_step_and_the_noise(mode):
    network = toy.model(loss_scaled(), **mode)
    before = toy.weights(network)
    network.train_on_batch(np.full((8, 3), 1e30, "float32"), np.zeros((8, 2), "float32") + np.inf)
    toy.assert_same(toy.weights(network), before)
    assert int(network.optimizer.iterations) == 0
    assert float(network.optimizer.dynamic_scale) == 2.0**14
