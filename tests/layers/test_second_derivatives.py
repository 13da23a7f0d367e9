"""Derivatives of errors: none reaches B, but what W gets as well under rules that follow W."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES
from tfcredit import layers, rules

X = tf.constant(np.random.default_rng(0).normal(size=(8, 6)), tf.float32)
FOLLOW = [rule for rule in RULES if rules.get(RULES[rule]).follows_forward]
NONE = [rule for rule in RULES if not rules.get(RULES[rule]).sends_error]
# W of the one is not trained, B of the other is a sum with the error in it.
OTHERS = ["frozen", "alignment"]


def penalised(rule, wrap=lambda function: function):
    keras.utils.set_random_seed(1)
    options = {"rule": RULES[rule], "seed": 1}
    one, two = layers.Dense(5, "tanh", **options), layers.Dense(1, **options)
    one.build((None, 6)), two.build((None, 5))

    @wrap
    def run(x):
        variables = [v.value for each in (one, two) for v in each.trainable_variables]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                scores = two(one(x, training=True), training=True)
            errors = inner.gradient(scores, x)
            penalty = tf.reduce_mean((tf.norm(errors, axis=1) - 1.0) ** 2)
        return outer.gradient(penalty, variables)

    names = [v.name for each in (one, two) for v in each.trainable_variables]
    return one, list(zip(names, run(X), strict=True))


@pytest.mark.every(4)
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("rule", [r for r in RULES if r not in (*NONE, *FOLLOW, *OTHERS)])
def test_a_gradient_penalty_does_not_teach_b(rule, wrap):
    _, gradients = penalised(rule, wrap)
    for name, gradient in gradients:
        if name == "feedback_kernel":
            assert gradient is None or not np.any(gradient)
    assert any(name == "kernel" and np.any(g) for name, g in gradients if g is not None)


def test_followers_get_what_w_gets():
    _, gradients = penalised("kolen_pollack")
    of_one = dict(reversed(gradients[: len(gradients) // 2]))
    np.testing.assert_array_equal(of_one["feedback_kernel"], of_one["kernel"])


def test_backprop_errors_give_the_true_penalty():
    keras.utils.set_random_seed(1)
    theirs = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    ours = keras.Sequential([keras.Input((6,)), layers.Dense(1, rule="feedback_alignment")])
    ours.layers[0].kernel.assign(theirs.layers[0].kernel)
    found = []
    for model, within in ((theirs, False), (ours, True)):
        with tf.GradientTape() as outer, tf.GradientTape() as inner:
            inner.watch(X)
            scores = model(X, training=True)
            if within:
                with layers.backprop_errors():
                    errors = inner.gradient(scores, X)
            else:
                errors = inner.gradient(scores, X)
            penalty = tf.reduce_mean((tf.norm(errors, axis=1) - 1.0) ** 2)
        found.append(outer.gradient(penalty, model.layers[0].kernel.value))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert np.abs(found[0]).max() > 1e-3
