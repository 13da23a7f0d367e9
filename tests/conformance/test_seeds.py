"""Seeds: the same seed repeats a layer, and nothing else does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import (
    LAYERS,
    QUICK_FIRST,
    RULES,
    WITHOUT_B,
    assert_close,
    compile_network,
    feedback_layers,
    is_quick,
    layer,
    network,
    train,
)
from tests.crossing import crossed
from tfcredit import layers

FEEDBACK = [rule for rule in RULES if rule not in WITHOUT_B]
DRAWS = ["akrout_mirror", "brsf", "calibrated_activation", "calibrated_mirror"]


def cosine(a, b):
    a, b = np.ravel(a), np.ravel(b)
    return abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.every(4)
@pytest.mark.parametrize("name, rule", crossed(LAYERS, FEEDBACK, quick=is_quick))
def test_seed_gives_the_feedback_kernel(name, rule):
    first, again, other = (
        layer(name, rule, seed=seed)[0].feedback_kernel.numpy() for seed in (3, 3, 4)
    )
    assert (first == again).all() and (first != other).any()


@pytest.mark.every(3)
@pytest.mark.parametrize("rule", QUICK_FIRST)
def test_global_seed_repeats_a_whole_training(rule):
    results = []
    for _ in range(2):
        model = compile_network(network(rule, seed=5))
        train(model, 2)
        results.append(model.get_weights())
    assert_close(*results)


@pytest.mark.parametrize(
    "initializer", ["glorot_uniform", "he_normal", "orthogonal", keras.initializers.HeNormal(7)]
)
@pytest.mark.parametrize(
    "make", [lambda **kw: layers.Dense(60, **kw), lambda **kw: layers.Conv2D(20, 3, **kw)]
)
def test_feedback_kernel_is_independent_of_the_forward_kernel(make, initializer):
    made = [make(kernel_initializer=initializer, rule="feedback_alignment") for _ in range(2)]
    for each in made:
        each.build((None, 8, 8, 40))
    kernels = [each.feedback_kernel.numpy() for each in made] + [made[0].kernel.numpy()]
    for i in range(3):
        for j in range(i):
            assert cosine(kernels[i], kernels[j]) < 0.08
    assert np.isclose(kernels[0].std(), kernels[2].std(), rtol=0.1)


@pytest.mark.parametrize("rule", DRAWS)
def test_noise_differs_between_layers_and_steps(rule):
    """Two layers of one network with equal kernels see different noise, as do two steps."""
    model = network(rule)
    kernels = [tf.ones((200, 4)), tf.zeros((200, 4))]
    made = [layers.Dense(4, rule=RULES[rule]) for _ in range(2)]
    draws = []
    for each in made:
        each.build((None, 200))
        for _ in range(2):
            each.kernel.assign(kernels[0])
            each.feedback_kernel.assign(kernels[1])
            each(tf.ones((1, 200)), training=True)
            draws.append(each.feedback_kernel.numpy())
    for i in range(4):
        for j in range(i):
            # Sums of few signs coincide now and then.
            assert (draws[i] != draws[j]).mean() > 0.7
    seeds = [each.seed for each in feedback_layers(model)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("rule", DRAWS)
def test_noise_repeats_per_seed(rule):
    results = []
    for _ in range(2):
        made, x = layer("conv", rule)
        made(x, training=True), made(2.0 * x, training=True)
        results.append(made.feedback_kernel.numpy())
    assert (results[0] == results[1]).all()
