"""Rules that are a function: (x, y, dy, W, B) -> dB."""

from collections.abc import Callable

import tensorflow as tf

from tfcredit.primitives.seen import summed_in
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState


def from_function(name: str, feedback_optimizer: tuple[str, float] = ("adam", 1e-3)):
    """Decorator that makes a rule of a function and registers it.

    The function is called in the backward pass as `function(connection, x, y, dy, w, b)`: the
    layer's three products, its input, its pre-activation without bias, the error of that, and both
    kernels. It returns what the optimizer takes for the gradient of B. `connection.hebbian(x, y,
    b.shape)`, `connection.op(x, b)` and `connection.op_transpose(y, b, tf.shape(x))` are right for
    layers of all kinds.

    Args:
        name: As `--rule` takes it.
        feedback_optimizer: Optimizer and learning rate that the command line uses for B.

    Returns:
        The decorator; it gives a subclass of `Rule`.

    Example:
        >>> from tfcredit import rules
        >>> from tfcredit.primitives import batch_size
        >>> @rules.from_function("hebb")
        ... def hebb(connection, x, y, dy, w, b):
        ...     return 0.01 * b - connection.hebbian(x, y, b.shape) / batch_size(x)
        >>> rules.get("hebb").feedback_optimizer
        ('adam', 0.001)
    """

    def decorate(function: Callable[..., tf.Tensor]) -> type[Rule]:
        class FunctionRule(Rule):
            def gradient(self, state: LayerState, dy: tf.Tensor, dw: tf.Tensor) -> tf.Tensor:
                """See `Rule.gradient`."""
                # Products run in the compute dtype, as the layer's own do, but for float16, in
                # which sums over a batch and space overflow.
                dtype = summed_in(state.x.dtype)
                seen = state.x, state.y, dy, state.kernel, state.feedback_kernel
                return function(state.connection, *(tf.cast(each, dtype) for each in seen))

        FunctionRule.__name__ = FunctionRule.__qualname__ = function.__name__
        FunctionRule.__doc__ = function.__doc__
        FunctionRule.__module__ = function.__module__
        FunctionRule.feedback_optimizer = feedback_optimizer
        return register(name)(FunctionRule)

    return decorate
