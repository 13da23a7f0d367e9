"""The routing of errors: through the feedback kernel, or through W where a caller asks for it."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfcredit.connections import Connection

_THROUGH_FORWARD_KERNEL = contextvars.ContextVar("through_forward_kernel", default=False)
_WITHOUT_R = contextvars.ContextVar("without_r", default=False)


@contextlib.contextmanager
def without_alignment() -> Iterator[None]:
    """Training calls inside the block add no R: a step in which the alignment rests.

    Feedback kernels that R alone teaches then have no gradient. Steps of rules are counted on, and
    what else a rule does (errors that teach B, updates) is done.
    """
    token = _WITHOUT_R.set(True)
    try:
        yield
    finally:
        _WITHOUT_R.reset(token)


@contextlib.contextmanager
def backprop_errors() -> Iterator[None]:
    """Gradients that are taken inside the block are backprop's: every error travels through W.

    One forward pass, recorded by a persistent tape, so gives the errors of the rule and the true
    ones, with the same dropout, noise and batch statistics.
    """
    token = _THROUGH_FORWARD_KERNEL.set(True)
    try:
        yield
    finally:
        _THROUGH_FORWARD_KERNEL.reset(token)


def are_backprop_errors() -> bool:
    """True while a gradient is taken inside `backprop_errors`."""
    return _THROUGH_FORWARD_KERNEL.get()


def is_alignment_off() -> bool:
    """True inside `without_alignment`."""
    return _WITHOUT_R.get()


@tf.custom_gradient
def hold_back_error(x: tf.Tensor) -> tf.Tensor:
    """`x`, to which no error goes but backprop's (`backprop_errors`)."""
    return tf.identity(x), lambda dx: dx if are_backprop_errors() else None


def route_error(
    connection: Connection,
    x: tf.Tensor,
    kernel: tf.Tensor,
    feedback_kernel: tf.Tensor,
    y: tf.Tensor,
    error_gradient: Callable[[tf.Tensor], tf.Tensor | None] | None = None,
    teach: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """`y` = op(x; W), already computed, with an error that travels down through B.

    For an upstream gradient dy: dx = opT(dy; B), dW = H(x, dy), dB = error_gradient(dW) (none
    if `None`). The one place where errors are routed.

    With `teach`, dB = teach(dy) instead, and a zero to be added to the losses is returned beside
    y: its upstream gradient is the scale of the loss, so that `teach` sees errors without it and
    what it gives is scaled as every other gradient is.
    """

    @tf.custom_gradient
    def route(x, w, b):
        def gradient(dy, scale=None):
            dw = connection.hebbian(x, dy, w.shape)
            db = None if error_gradient is None else error_gradient(dw)
            if teach is not None:
                unscaled = tf.math.divide_no_nan(tf.cast(dy, scale.dtype), scale)
                db = tf.cast(scale * tf.cast(teach(unscaled), scale.dtype), b.dtype)
            carrier = w if are_backprop_errors() else b
            return connection.op_transpose(dy, carrier, tf.shape(x)), dw, db

        outputs = tf.stop_gradient(y)
        return outputs if teach is None else (outputs, tf.zeros([])), gradient

    return route(x, kernel, feedback_kernel)
