import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers import toy
from tfcredit.errors import UserError
from tfcredit.optimizers import NoisyOptimizer, PartitionedOptimizer

SGD = keras.optimizers.SGD


def quiet():
    """An optimizer whose own steps, with zero gradients, change nothing."""
    return PartitionedOptimizer(SGD(0.5), SGD(0.25))


def step_changes(optimizer, variables, steps=1):
    """What each of some steps with zero gradients adds to the variables."""
    changes = []
    for _ in range(steps):
        before = [v.numpy() for v in variables]
        optimizer.apply([tf.zeros(v.shape) for v in variables], variables)
        changes.append([v.numpy() - b for v, b in zip(variables, before, strict=True)])
    return changes


def two_variables(size=20_000):
    return [
        keras.Variable(np.zeros(size, "float32"), name=n) for n in ("kernel", "feedback_kernel")
    ]


@pytest.mark.parametrize(("distribution", "kurtosis"), [("normal", 3.0), ("uniform", 1.8)])
def test_moments(distribution, kurtosis):
    optimizer = NoisyOptimizer(quiet(), distribution, variance=0.09, seed=1)
    (changes,) = step_changes(optimizer, two_variables())
    for change, rate in zip(changes, (0.5, 0.25), strict=True):
        noise = change.astype("float64") / rate
        assert abs(noise.mean()) < 0.3 * 4 / np.sqrt(noise.size)
        assert noise.var() == pytest.approx(0.09, rel=0.05)
        assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(kurtosis, rel=0.1)


def test_draws_are_independent_between_variables_and_steps():
    changes = step_changes(NoisyOptimizer(quiet(), variance=1.0, seed=1), two_variables(), 3)
    draws = np.stack([change for step in changes for change in step])
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 4 / np.sqrt(draws.shape[1])


def test_seed_and_nothing_else_decides():
    def draws(seed):
        optimizer = NoisyOptimizer(quiet(), variance=1.0, seed=seed)
        return [c for step in step_changes(optimizer, two_variables(50), 2) for c in step]

    toy.assert_same(draws(1), draws(1))
    assert all((a != b).all() for a, b in zip(draws(1), draws(2), strict=True))
    keras.utils.set_random_seed(4)
    drawn = draws(None)
    keras.utils.set_random_seed(4)
    toy.assert_same(drawn, draws(None))


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_modes_draw_alike(distribution):
    optimizer = NoisyOptimizer("sgd", distribution, variance=1.0, seed=3)
    seed = tf.constant([5, 2**30], tf.int32)
    eager = optimizer._noise((1000,), seed)
    for compiled in (False, True):
        draw = tf.function(lambda s: optimizer._noise((1000,), s), jit_compile=compiled)
        np.testing.assert_allclose(draw(seed), eager, rtol=0, atol=5e-6)


@pytest.mark.parametrize("mode", [{"run_eagerly": True}, {"jit_compile": True}])
def test_modes_train_alike(mode):
    def run(**options):
        inner = PartitionedOptimizer("momentum", "adam")
        return toy.weights(
            toy.fit(toy.model(NoisyOptimizer(inner, variance=0.1, seed=3), **options))
        )

    toy.assert_same(run(**mode), run(), atol=2e-6)


def test_without_variance_nothing_is_added():
    noisy = toy.fit(toy.model(NoisyOptimizer("adam", variance=0.0)))
    plain = toy.fit(toy.model("adam", run_eagerly=True))
    toy.assert_same(toy.weights(noisy), toy.weights(plain), atol=2e-6)


@pytest.mark.parametrize("follows", [False, True])
def test_feedback_kernels_alone(follows):
    network = toy.model(follows=follows)
    variables = network.trainable_variables
    optimizer = NoisyOptimizer(quiet(), variance=1.0, variables="feedback", seed=1)
    (changes,) = step_changes(optimizer, variables)
    for variable, change in zip(variables, changes, strict=True):
        assert change.any() == (variable.name == "feedback_kernel")


def test_variables_without_gradient_stay():
    kernel, feedback = two_variables(10)
    optimizer = NoisyOptimizer(quiet(), variance=1.0, seed=1)
    optimizer.apply([tf.zeros(10), None], [kernel, feedback])
    assert kernel.numpy().all() and not feedback.numpy().any()


def test_the_rate_is_that_of_the_step():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.5])
    optimizer = NoisyOptimizer(PartitionedOptimizer(SGD(schedule), SGD(1.0)), variance=1.0, seed=1)
    constant = NoisyOptimizer(PartitionedOptimizer(SGD(1.0), SGD(1.0)), variance=1.0, seed=1)
    changes = step_changes(optimizer, two_variables(50), 2)
    full = step_changes(constant, two_variables(50), 2)
    np.testing.assert_allclose(changes[0][0], full[0][0], atol=1e-6)
    np.testing.assert_allclose(changes[1][0], full[1][0] / 2, atol=1e-6)
    np.testing.assert_allclose(changes[1][1], full[1][1], atol=1e-6)


def test_accumulating_steps_get_no_noise():
    inner = PartitionedOptimizer(SGD(0.5, gradient_accumulation_steps=2), SGD(0.5))
    changes = step_changes(NoisyOptimizer(inner, variance=1.0, seed=1), two_variables(10), 4)
    assert [bool(kernel.any()) for kernel, _ in changes] == [False, True, False, True]
    assert all(feedback.all() for _, feedback in changes)


def test_constraints_hold_after_the_noise():
    layer = keras.layers.Dense(5, kernel_constraint="non_neg")
    layer.build((None, 40))
    (kernel, bias) = layer.trainable_variables
    optimizer = NoisyOptimizer(SGD(1.0), variance=1.0, seed=1)
    step_changes(optimizer, [kernel, bias])
    assert (kernel.numpy() >= 0).all() and (bias.numpy() < 0).any()


def test_learning_rate_and_loss_scale_pass_through():
    optimizer = NoisyOptimizer(quiet(), seed=1)
    optimizer.learning_rate = 0.125
    assert float(optimizer.inner.forward.learning_rate) == 0.125
    scaled = NoisyOptimizer("sgd", variance=0.0, loss_scale_factor=64.0)
    toy.assert_same(
        toy.weights(toy.fit(toy.model(scaled))),
        toy.weights(toy.fit(toy.model("sgd", run_eagerly=True))),
        atol=1e-6,
    )


def test_low_precision_variables():
    variable = keras.Variable(np.zeros(1000), dtype="bfloat16", name="kernel")
    step_changes(NoisyOptimizer(SGD(1.0), variance=1.0, seed=1), [variable])
    assert np.array(variable, "float32").std() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution": "cauchy"}, "distribution is 'cauchy'"),
        ({"variables": "some"}, "variables is 'some'"),
        ({"variance": -1.0}, "variance is -1.0"),
        ({"variance": float("nan")}, "variance is nan"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"inner": 3}, "inner is 3"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(UserError, match=message):
        NoisyOptimizer(**{"inner": "sgd", **options})
