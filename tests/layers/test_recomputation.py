"""Blocks that are run again in the backward pass: right without R, refused where B learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES
from tfcredit import layers, rules
from tfcredit.errors import UserError

X = tf.constant(np.random.default_rng(0).normal(size=(8, 6)), tf.float32)


def rests(rule):
    rule = rules.get(RULES[rule])
    return not (rule.learns or rule.renews or rule.counts_steps)


@pytest.mark.parametrize("rule", RULES)
def test_recompute_grad(rule):
    made = layers.Dense(5, "tanh", rule=RULES[rule], seed=1)
    made.build((None, 6))
    found = []
    for wrap in (lambda f: f, tf.recompute_grad):
        with tf.GradientTape() as tape:
            tape.watch(X)
            if wrap is tf.recompute_grad and not rests(rule):
                with pytest.raises(UserError, match="run again in the backward pass"):
                    wrap(lambda x: made(x, training=True))(X)
                assert wrap(lambda x: made(x))(X).shape == (8, 5)
                return
            total = tf.reduce_sum(wrap(lambda x: made(x, training=True))(X) ** 2)
        found.append(tape.gradient(total, [X, made.kernel.value]))
    for one, other in zip(*found, strict=True):
        if one is not None and np.any(other):  # recomputed ones are 0 where there is none
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.any(found[1][1])


class Block(keras.layers.Layer):
    """A user's layer around another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_remat_scope():
    made = layers.Dense(5, rule="symmetric_alignment", seed=1)
    with keras.RematScope("full"):
        block = Block(made)
    model = keras.Sequential([keras.Input((6,)), block])
    model.compile("sgd", "mse")
    with pytest.raises(UserError, match="RematScope"):
        model.fit(X, X[:, :5], verbose=0)
