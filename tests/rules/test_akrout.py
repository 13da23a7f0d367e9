"""Akrout's mirror: its phases and its arithmetic against NumPy, and that B turns towards W."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rules.test_alignment import state
from tfcredit import layers, rules
from tfcredit.analysis.alignment import angle
from tfcredit.errors import UserError
from tfcredit.seeding import derive

PLAIN = {"samples": 6, "first_steps": 4, "rescale": None}
ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "linear": lambda z: z,
}


def noise(seed, step, shape, distribution, index=None):
    given = state(step=step)
    object.__setattr__(given, "seed", seed)
    index = None if index is None else tf.constant(index)
    return given.noise(shape, tf.float32, distribution, index=index).numpy()


def expected(b, w, bias, step, seed, options):
    """B after a training call: the mirror batches of a dense layer, in NumPy."""
    samples, activation = options["samples"], ACTIVATIONS[options.get("activation", "tanh")]
    rate, decay = options.get("rate", 1.28), options.get("decay", 0.0)
    distribution = options.get("distribution", "uniform")
    for index in range(options["first_steps"] if step == 0 else 1):
        unit = noise(seed, step, (samples, w.shape[0]), distribution, index)
        x = options.get("stddev", 0.0289) * unit
        y = activation(x @ w + bias)
        b = (1 - decay) * b + rate * np.einsum("ki,kj->ij", x, y) / samples
    if options["rescale"] is not None:
        seed = derive(seed, "rescale")
        z = 0.5 + noise(seed, step, (samples, w.shape[1]), "uniform") / 12**0.5
        assert 0 <= z.min() and z.max() <= 1
        b = b * options["rescale"] / np.std(z @ b.T, axis=1).mean()
    return b


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rescale": 0.5},
        {"first_steps": 0},
        {"activation": "sigmoid", "decay": 0.1, "rate": 2.0},
        {"distribution": "normal", "stddev": 0.5, "rescale": 2.0, "activation": "linear"},
    ],
    ids=str,
)
def test_phases_equal_numpy(changes, wrap):
    options = PLAIN | changes
    rule = rules.AkroutMirror(**options)
    layer = layers.Dense(4, "tanh", rule=rule, seed=3, bias_initializer="he_normal")
    layer.build((None, 5))
    call = wrap(lambda x: layer(x, training=True))
    random, b = np.random.default_rng(0), layer.feedback_kernel.numpy()
    for step in range(3):
        w = random.normal(size=(5, 4)).astype("float32")
        layer.kernel.assign(w)
        call(tf.zeros((2, 5)))
        b = expected(b, w, layer.bias.numpy(), step, 3, options)
        np.testing.assert_allclose(layer.feedback_kernel.numpy(), b, rtol=1e-4, atol=1e-6)


def test_convolutions_sum_over_positions():
    rule = rules.AkroutMirror(samples=2, first_steps=1, rescale=None)
    given = state("conv", step=0)
    xi = 0.0289 * given.noise((2, 4, 4, 2), tf.float64, "uniform", index=tf.constant(0))
    y = tf.tanh(given.connection.op(xi, given.kernel) + given.bias)
    product = given.connection.hebbian(xi, y, given.kernel.shape)
    change = rule.update(given) - given.feedback_kernel
    np.testing.assert_allclose(change, 1.28 / 2 * product, rtol=1e-9, atol=1e-12)


def test_mirror_batches_differ():
    draws = [noise(5, step, (50, 40), "uniform", index) for step in (0, 1) for index in (0, 1, 2)]
    draws.append(noise(5, 0, (50, 40), "uniform"))
    for i, one in enumerate(draws):
        assert np.isclose(one.std(), 1, atol=0.05)
        for other in draws[:i]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.08


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda **kw: layers.Dense(20, "sigmoid", **kw), (30,)),
        (lambda **kw: layers.Conv2D(8, 3, **kw), (6, 6, 4)),
    ],
    ids=["dense", "conv"],
)
def test_b_turns_towards_w(make, shape):
    keras.utils.set_random_seed(0)
    layer = make(rule="akrout_mirror(first_steps=2000, samples=16, stddev=0.5)", seed=1)
    layer.build((None, *shape))
    before = angle(layer.kernel, layer.feedback_kernel)
    call = tf.function(lambda x: layer(x, training=True))
    call(tf.zeros((1, *shape)))
    assert before > 75
    assert angle(layer.kernel, layer.feedback_kernel) < 15
    z = np.random.default_rng(0).uniform(size=(300, *layer.compute_output_shape((1, *shape))[1:]))
    back = layer.connection.op_transpose(
        tf.constant(z, tf.float32), layer.feedback_kernel.value, tf.constant([300, *shape])
    )
    spread = back.numpy().reshape(300, -1).std(1).mean()
    np.testing.assert_allclose(spread, 0.5, rtol=0.1)


@pytest.mark.parametrize(
    "arguments, message",
    {
        "samples=0": "samples=0 must be an integer >= 1",
        "samples=1.5": "samples=1.5 must be an integer",
        "first_steps=-1": "first_steps=-1 must be an integer >= 0",
        "stddev=0": "stddev=0 must be a positive",
        "rate=None": "rate=None must be a positive",
        "rescale='none'": "rescale='none' must be a positive",
        "decay=1": "decay=1 must be a finite number >= 0 and below 1",
        "distribution='pink'": "distribution='pink' is unknown",
        "activation='sigmod'": "activation='sigmod' is unknown",
    }.items(),
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        rules.get(f"akrout_mirror({arguments})")
