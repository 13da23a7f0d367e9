"""Product feedback: B = R Q against an explicit R and Q; the angle and the rank that follow."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.connection_cases import case
from tests.rules.test_alignment import state
from tfcredit import layers, rules
from tfcredit.analysis.alignment import angle
from tfcredit.connections import (
    ConvConnection,
    DenseConnection,
    DepthwiseConnection,
    EinsumConnection,
    TransposedConnection,
)
from tfcredit.errors import UserError

RULES = ["product_feedback_alignment(width=3.0, decay=0.1)", "low_rank_feedback(rank=2, decay=0.1)"]


def q_of(rule, outputs, seed, dtype=tf.float64):
    return rules.get(rule).projection(outputs, seed, dtype).numpy()


@pytest.mark.parametrize("rule", RULES)
def test_a_training_equals_one_with_r_and_q(rule):
    """Two dense layers, squared error, 20 steps of momentum, in NumPy with R and Q apart."""
    keras.utils.set_random_seed(0)
    made = [layers.Dense(7, "tanh", rule=rule, seed=1), layers.Dense(5, rule=rule, seed=2)]
    model = keras.Sequential([keras.Input((6,)), *made])
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse")
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 8, 6)).astype("float32")
    target = random.normal(size=(20, 8, 5)).astype("float32")

    w, c, q, r = [], [], [], []
    for layer in made:
        w.append(layer.kernel.numpy().astype(float))
        c.append(layer.bias.numpy().astype(float))
        q.append(q_of(rule, layer.units, layer.seed))
        r.append(layer.feedback_kernel.numpy() @ np.linalg.pinv(q[-1]))
        # B starts in the range of Q.
        np.testing.assert_allclose(r[-1] @ q[-1], layer.feedback_kernel.numpy(), atol=1e-6)
    velocity = [[np.zeros_like(each[i]) for each in (w, c, r)] for i in range(2)]
    for xs, ts in zip(x, target, strict=True):
        hidden = np.tanh(xs @ w[0] + c[0])
        errors = [None, 2 * (hidden @ w[1] + c[1] - ts) / ts.size]
        errors[0] = (errors[1] @ q[1].T @ r[1].T) * (1 - hidden**2)
        for i, inputs in enumerate((xs, hidden)):
            gradients = [
                inputs.T @ errors[i],
                errors[i].sum(0),
                inputs.T @ (errors[i] @ q[i].T) + 0.1 * r[i],
            ]
            for values, v, gradient in zip((w[i], c[i], r[i]), velocity[i], gradients, strict=True):
                v[...] = 0.9 * v - 0.1 * gradient
                values += v
        model.train_on_batch(xs, ts)
    for i, layer in enumerate(made):
        np.testing.assert_allclose(layer.kernel.numpy(), w[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.bias.numpy(), c[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.feedback_kernel.numpy(), r[i] @ q[i], rtol=1e-4, atol=1e-5)
        if "rank" in rule:
            assert np.linalg.matrix_rank(layer.feedback_kernel.numpy(), tol=1e-4) == 2


def last_axis(dy, q, groups=1):
    """Q on the last axis of an error, in each of so many groups."""
    apart = dy.reshape(*dy.shape[:-1], groups, -1) @ q.T
    return apart.reshape(*dy.shape[:-1], -1)


# Connection, shapes of input and kernel; connection and kernel shape of R, Q on the error, and Q
# behind R. There are 4 outputs (to a group) and 3 rows of Q.
DENSE, CONV, GROUPS = DenseConnection(), ConvConnection((2, 1), "same"), ConvConnection(groups=2)
DEPTHWISE = DepthwiseConnection()
TRANSPOSED = TransposedConnection(ConvConnection((2, 2), "same"))
OWN = EinsumConnection("abc,bcd->abd", 3)
HEADS, FLAT = EinsumConnection("abc,cde->abde", 3), EinsumConnection("abc,cw->abw", 3)
CASES = {
    "dense": (DENSE, (5,), (5, 4), DENSE, (5, 3), last_axis, last_axis),
    "conv": (CONV, (5, 4, 3), (3, 2, 3, 4), CONV, (3, 2, 3, 3), last_axis, last_axis),
    "groups": (
        *(GROUPS, (5, 4, 4), (3, 2, 2, 8), GROUPS, (3, 2, 2, 6)),
        *[functools.partial(last_axis, groups=2)] * 2,
    ),
    "depthwise": (
        *(DEPTHWISE, (5, 4, 3), (2, 2, 3, 4), DEPTHWISE, (2, 2, 3, 3)),
        *(functools.partial(last_axis, groups=3), last_axis),
    ),
    "transposed": (
        *(TRANSPOSED, (3, 3, 2), (3, 3, 4, 2), TRANSPOSED, (3, 3, 3, 2), last_axis),
        lambda r, q: np.einsum("xywc,fw->xyfc", r, q),
    ),
    "kept axis": (OWN, (2, 3), (2, 3, 4), OWN, (2, 3, 3), last_axis, last_axis),
    "heads": (
        *(HEADS, (3, 5), (5, 2, 2), FLAT, (5, 3)),
        lambda dy, q: dy.reshape(2, 3, 4) @ q.T,
        lambda r, q: (r @ q.T).reshape(5, 2, 2),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_db_is_the_step_of_r_for_every_connection(name):
    connection, shape, kernel_shape, wide, r_shape, before, behind = CASES[name]
    rule = rules.get("low_rank_feedback(rank=3)")
    made = case(connection, shape, kernel_shape)
    dy = np.random.default_rng(3).normal(size=made.y.shape)
    q = q_of(rule, 4, 5)
    dr = wide.hebbian(made.x, tf.constant(before(dy, q)), r_shape).numpy()
    expected = behind(dr, q.T)
    given = dataclasses.replace(
        state(), connection=connection, kernel=made.kernel, feedback_kernel=made.feedback
    )
    dw = connection.hebbian(made.x, tf.constant(dy), kernel_shape)
    np.testing.assert_allclose(rule.gradient(given, None, dw), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule, width", [(RULES[0], 300), ("low_rank_feedback(rank=20)", 20)])
def test_q_has_the_variance_and_the_angle_that_are_stated(rule, width):
    q = q_of(rule, 100, 1)
    assert q.shape == (width, 100) and abs(q.mean()) < 0.01
    np.testing.assert_allclose(q.var(), 1 / max(width, 100), rtol=0.05)
    assert (q != q_of(rule, 100, 2)).all()
    w = np.random.default_rng(0).normal(size=(200, 100))
    tangent = np.tan(np.radians(angle(w, w @ q.T @ q)))
    np.testing.assert_allclose(tangent**2, 100 / width, rtol=0.1)


def test_a_narrow_layer_has_full_rank():
    assert rules.LowRankFeedback(rank=10).width(4) == 4
    assert rules.ProductFeedbackAlignment().width(4) == 16


@pytest.mark.parametrize(
    "rule, message",
    {
        "product_feedback_alignment(width=0.5)": "width=0.5 must be a finite number >= 1",
        "product_feedback_alignment(amp=0.5)": "no coefficient 'amp'",
        "low_rank_feedback(rank=0)": "rank=0 must be an integer >= 1",
        "low_rank_feedback(rank=2.0)": "rank=2.0 must be an integer >= 1",
    }.items(),
)
def test_wrong_arguments_are_refused(rule, message):
    with pytest.raises(UserError, match=message):
        rules.get(rule)
