"""Fused updates are Keras' own, but for rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import optimizers
from tfcredit.optimizers import fused

MAKERS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {}),
    "adam, other options": ("Adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "decay, clipping": ("SGD", {"momentum": 0.5, "weight_decay": 0.1, "clipnorm": 0.5}),
    "moving average": ("Adam", {"use_ema": True, "ema_overwrite_frequency": 2}),
    "accumulation": ("Adam", {"gradient_accumulation_steps": 2}),
}


def both(kind, options):
    """Keras' optimizer and ours."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    return [getattr(module, kind)(schedule, **options) for module in (keras.optimizers, fused)]


def trajectory(optimizer, dtype, steps=6, sparse=False, jit=False):
    """Weights and slots after each of some steps with fixed gradients."""
    rng = np.random.default_rng(0)
    variable = keras.Variable(rng.normal(size=(5, 3)), dtype=dtype)
    other = keras.Variable(rng.normal(size=(4,)), dtype=dtype)
    optimizer.build([variable, other])

    @tf.function(jit_compile=jit)
    def step(gradient, second):
        if sparse:
            gradient = tf.IndexedSlices(gradient[:2], tf.constant([3, 1]), (5, 3))
        optimizer.apply_gradients([(gradient, variable), (second, other)])

    seen = []
    for _ in range(steps):
        step(*(tf.constant(rng.normal(size=shape), dtype) for shape in ((5, 3), (4,))))
        state = [variable, other, *optimizer.variables]
        seen.append(np.concatenate([np.ravel(tf.cast(v.value, tf.float64)) for v in state]))
    return np.stack(seen)


@pytest.mark.every(4)
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-6)])
def test_steps_are_those_of_keras(name, dtype, tolerance):
    theirs, ours = (trajectory(optimizer, dtype) for optimizer in both(*MAKERS[name]))
    assert np.ptp(theirs[:, :15], axis=0).min() > 0, "every weight moves"
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_sparse_gradients(name):
    theirs, ours = (trajectory(each, "float32", sparse=True) for each in both(*MAKERS[name]))
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
def test_compiled_by_xla(name):
    optimizer, again = both(*MAKERS[name])[1], both(*MAKERS[name])[1]
    compiled = trajectory(optimizer, "float32", jit=True)
    np.testing.assert_allclose(compiled, trajectory(again, "float32"), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
def test_each_weight_is_one_op(name):
    """Nothing else of the weight's size is computed."""
    optimizer = both(*MAKERS[name])[1]
    variable = keras.Variable(np.zeros((5, 3)), dtype="float32")
    optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    graph = step.get_concrete_function(tf.TensorSpec((5, 3))).graph
    sized = {op.type for op in graph.get_operations() for out in op.outputs if out.shape == (5, 3)}
    assert sized <= {"Placeholder", "Identity", "IdentityN"}
    assert sum(op.type.startswith("ResourceApply") for op in graph.get_operations()) == 1


@pytest.mark.parametrize("name", ["nesterov", "adam"])
def test_names_and_configs_lead_to_them(name):
    kind, options = MAKERS[name]
    optimizer = optimizers.get("momentum" if kind == "SGD" else "adam", 0.1)
    assert type(optimizer) is getattr(fused, kind)
    assert isinstance(optimizer, getattr(keras.optimizers, kind))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()
    inner = optimizers.PartitionedOptimizer("momentum", "adam").inner_optimizers
    assert [type(each) for each in inner] == [fused.SGD, fused.Adam]
