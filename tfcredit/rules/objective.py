"""The regularisation function R of a layer, written out, for options without a closed form.

`primitives.value_and_gradient` is the closed form. Here R is built from operations that
TensorFlow differentiates.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from tfcredit.connections import Connection
from tfcredit.errors import UserError
from tfcredit.primitives import scalar
from tfcredit.rules.inputs import AlignmentInputs


def center(x: tf.Tensor) -> tf.Tensor:
    """Subtract each sample's mean over all its features and positions."""
    return x - tf.reduce_mean(x, axis=list(range(1, x.shape.rank)), keepdims=True)


def normalize(x: tf.Tensor) -> tf.Tensor:
    """Centre, then scale each sample to unit L2 norm."""
    x = center(x)
    return tf.math.l2_normalize(x, axis=list(range(1, x.shape.rank)))


def batch_center(x: tf.Tensor) -> tf.Tensor:
    """Subtract the mean over the batch."""
    return x - tf.reduce_mean(x, axis=0, keepdims=True)


def alter_input(x: tf.Tensor, inputs: AlignmentInputs) -> tf.Tensor:
    """Centre and normalize the layer's input as `inputs` asks."""
    if inputs.center_input:
        x = center(x)
    return normalize(x) if inputs.normalize_input else x


def alter_output(x: tf.Tensor, inputs: AlignmentInputs, direction: str) -> tf.Tensor:
    """Centre, normalize, batch-centre a projection or reconstruction as `inputs` asks.

    Args:
        x: The tensor `[n, ...]`.
        inputs: The options.
        direction: `"forward"` or `"backward"`.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    if getattr(inputs, f"center_{direction}_output"):
        x = center(x)
    if getattr(inputs, f"normalize_{direction}_output"):
        x = normalize(x)
    return batch_center(x) if getattr(inputs, f"batch_center_{direction}_output") else x


def objective(
    connection: Connection,
    coefficients: Mapping[str, float | tf.Tensor],
    inputs: AlignmentInputs,
    x: tf.Tensor,
    y: tf.Tensor,
    kernel: tf.Tensor,
    feedback_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    activation: Callable | None,
    x_backward: tf.Tensor | None = None,
) -> tf.Tensor:
    """R by its definition, for options that leave it without a closed form.

    Args:
        connection: The layer's three products.
        coefficients: Name -> coefficient; `error` is ignored.
        inputs: The options.
        x: The (altered) input `[n, ...]`.
        y: The forward projection with bias and activation as `inputs` asks.
        kernel: W, behind a stop-gradient unless `inputs.update_forward`.
        feedback_kernel: B.
        bias: Added to the backward projection, or `None`.
        activation: Applied to the backward projection, or `None`.
        x_backward: The input of the backward projection where it differs from `x`.

    Returns:
        A differentiable scalar in the dtype of `feedback_kernel`.
    """
    dtype = feedback_kernel.dtype
    w, b = tf.cast(kernel, x.dtype), tf.cast(feedback_kernel, x.dtype)
    back = connection.op(x if x_backward is None else x_backward, b)
    if bias is not None:
        back = back + bias
    if activation is not None:
        back = activation(back)
    forward_projection = alter_output(y, inputs, "forward")
    backward_projection = alter_output(back, inputs, "backward")
    needs = {"null", "amp"} if inputs.reconstruction_amp else {"null"}
    reconstruction = None
    if needs & set(coefficients):
        source, through, direction = (
            (back, w, "backward") if inputs.reconstruction_reversal else (y, b, "forward")
        )
        reconstruction = connection.op_transpose(source, through, tf.shape(x))
        reconstruction = alter_output(reconstruction, inputs, direction)

    n = tf.cast(tf.shape(x)[0], dtype)

    def inner(left, right):
        return tf.reduce_sum(tf.cast(left, dtype) * tf.cast(right, dtype)) / n

    total = tf.zeros([], dtype)
    for name, coefficient in coefficients.items():
        if name == "amp":
            pair = (forward_projection, backward_projection)
            value = -inner(*((x, reconstruction) if inputs.reconstruction_amp else pair))
        elif name == "null":
            value = inner(reconstruction, reconstruction) / 2
        elif name == "sparse":
            value = inner(backward_projection, backward_projection) / 2
            if inputs.update_forward:
                value += inner(forward_projection, forward_projection) / 2
        elif name == "decay":
            value = tf.nn.l2_loss(feedback_kernel)
            if inputs.update_forward:
                value += tf.nn.l2_loss(kernel)
        elif name == "self":
            value = -tf.reduce_sum(feedback_kernel * kernel)
        elif name == "error":
            continue
        else:
            raise UserError(
                f"primitive {name!r} is stated by its gradient, and these inputs of R alter the "
                f"backward projection ({inputs}): leave them out, or write a Rule with a `loss`."
            )
        total += scalar(coefficient, dtype) * value
    return total
