"""Linear stability of W and B together, in a deep linear chain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfcredit import rules
from tfcredit.connections.dense import DenseConnection
from tfcredit.primitives import Seen, value_and_gradient


def joint_eigenvalues(
    kernels: Sequence[Any],
    feedback_kernels: Sequence[Any],
    x: Any,
    target: Any,
    rule: Any,
    learning_rate: float,
    feedback_rate: float,
    weight_decay: float = 0.0,
) -> np.ndarray:
    """Eigenvalues of one step of plain SGD on all W and B of a deep linear chain, linearised.

    The chain is y_l = y_(l-1) W_l, y_0 = x; its loss 1/(2n) |y_L - target|^2; errors go through B.
    The Jacobian is the exact one, by automatic differentiation.

    Args:
        kernels: Each layer's W `[inputs, units]`, first layer first.
        feedback_kernels: Each layer's B, likewise.
        x: Inputs `[n, inputs]`.
        target: Targets `[n, units]`.
        rule: An `AlignmentRule` with constant coefficients, or what `rules.get` makes one of.
        learning_rate: Of W.
        feedback_rate: Of B.
        weight_decay: Coefficient of 1/2 |W|^2 in the loss.

    Returns:
        Complex, by falling modulus, as many as there are weights in W and B. The point is unstable
        if one is larger than 1 in modulus.
    """
    coefficients, dense = dict(rules.get(rule).coefficients), DenseConnection()
    error = coefficients.pop("error", 0.0)
    x, target = (tf.constant(np.asarray(v, np.float64)) for v in (x, target))
    parts = [np.asarray(k, np.float64) for k in [*kernels, *feedback_kernels]]

    def step(state):
        flat = tf.split(state, [part.size for part in parts])
        weights = [tf.reshape(f, p.shape) for f, p in zip(flat, parts, strict=True)]
        ws, bs = weights[: len(kernels)], weights[len(kernels) :]
        activity = [x]
        for w in ws:
            activity.append(dense.op(activity[-1], w))
        dy = (activity[-1] - target) / len(x)
        new_ws, new_bs = [], []
        for w, b, below, above in list(zip(ws, bs, activity, activity[1:], strict=False))[::-1]:
            dw = dense.hebbian(below, dy, w.shape)
            _, db = value_and_gradient(coefficients, Seen(dense, below, above, w, b))
            new_ws.insert(0, w - learning_rate * (dw + weight_decay * w))
            new_bs.insert(0, b - feedback_rate * (db + error * dw))
            dy = dense.op_transpose(dy, b, tf.shape(below))
        return tf.concat([tf.reshape(new, [-1]) for new in new_ws + new_bs], 0)

    state = tf.constant(np.concatenate([part.ravel() for part in parts]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(state)
        after = step(state)
    values = np.linalg.eigvals(tape.jacobian(after, state, experimental_use_pfor=False).numpy())
    return values[np.argsort(-np.abs(values))]
