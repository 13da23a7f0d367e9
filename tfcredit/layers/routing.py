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


def hold_back_error(x: tf.Tensor) -> tf.Tensor:
    """`x`, to which no error goes but backprop's (`backprop_errors`)."""
    if isinstance(x, tf.SparseTensor):
        return x.with_values(_hold_back(x.values))
    if isinstance(x, tf.RaggedTensor):
        return x.with_flat_values(_hold_back(x.flat_values))
    return _hold_back(x)


@tf.custom_gradient
def _hold_back(x: tf.Tensor) -> tf.Tensor:
    return tf.identity(x), lambda dx: dx if are_backprop_errors() else None


Teach = Callable[[tf.Tensor, tf.Tensor], tf.Tensor | None]
"""dB of (dy, dw); `None` for none."""


def route_error(
    connection: Connection,
    x: tf.Tensor,
    kernel: tf.Tensor,
    feedback_kernel: tf.Tensor,
    y: tf.Tensor,
    teach: Teach | None = None,
    unscaled: bool = False,
    carrier: tf.Tensor | None = None,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """`y` = op(x; W), already computed, with an error that travels down through B.

    For an upstream gradient dy: dx = opT(dy; carrier), dW = H(x, dy), dB = teach(dy, dW) (none if
    `None`). The one place where errors are routed.

    Args:
        connection: The layer's three products.
        x: Its input `[n, ...]`.
        kernel: W in the dtype of `x`.
        feedback_kernel: B in the dtype of its variable, which gets dB.
        y: op(x; W).
        teach: dB as a function of dy and dW.
        unscaled: Whether `teach` sees errors without the scale of the loss. Then a zero to be added
            to the losses is returned beside y: its upstream gradient is that scale, and what
            `teach` gives is scaled by it as every other gradient is.
        carrier: The kernel that errors travel through, where it is not B: its renewed value.

    Returns:
        `y`, with `unscaled` beside a zero.
    """
    carrier = feedback_kernel if carrier is None else carrier

    @tf.custom_gradient
    def route(x, w, b):
        def gradient(dy, scale=None):
            dw, db = kernel_gradients(connection, x, dy, w, b, carrier, teach, scale)
            through = carrying(w, carrier, x.dtype)
            return connection.op_transpose(dy, through, tf.shape(x)), dw, db

        outputs = tf.stop_gradient(y)
        return (outputs, tf.zeros([])) if unscaled else outputs, gradient

    return route(x, kernel, feedback_kernel)


def carry_error(
    connection: Connection, x: tf.Tensor, y: tf.Tensor, carrier: tf.Tensor
) -> tf.Tensor:
    """`y` = op(x; W), already computed, whose error travels down and stays to be seen.

    Args:
        connection: The three products.
        x: The input `[n, ...]`.
        y: The product; it gets the error, too.
        carrier: The kernel that errors travel through, in the dtype of `x`.

    Returns:
        `y`.
    """

    @tf.custom_gradient
    def route(x, y):
        return tf.identity(y), lambda dy: (connection.op_transpose(dy, carrier, tf.shape(x)), dy)

    return route(x, y)


def carrying(kernel: tf.Tensor, carrier: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The kernel that errors travel through: the carrier, or W where a caller asks for it."""
    # No derivative of an error reaches B: it would carry what the task asks of W.
    return kernel if are_backprop_errors() else tf.cast(tf.stop_gradient(carrier), dtype)


def kernel_gradients(
    connection: Connection,
    x: tf.Tensor,
    dy: tf.Tensor,
    kernel: tf.Tensor,
    feedback_kernel: tf.Tensor,
    carrier: tf.Tensor,
    teach: Teach | None,
    scale: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """DW and dB of an input and the error of its product; see `route_error`."""
    dw = connection.hebbian(x, dy, kernel.shape)
    dtype, db = feedback_kernel.dtype, None
    if teach is not None and scale is None:
        db = teach(dy, dw)
        db = None if db is None else tf.cast(db, dtype)
    elif teach is not None:
        errors = (tf.math.divide_no_nan(tf.cast(e, scale.dtype), scale) for e in (dy, dw))
        db = teach(*(tf.cast(e, x.dtype) for e in errors))
        db = None if db is None else tf.cast(scale * tf.cast(db, scale.dtype), dtype)
    if teach is not None and x.dtype == tf.float16:
        # A B beyond float16 can carry no error: the step is not finite, so that it is
        # skipped (and the run of such steps reported) before B runs away.
        beyond = 0.0 * tf.cast(tf.cast(carrier, x.dtype), dtype)
        db = beyond if db is None else db + beyond
    return dw, db
