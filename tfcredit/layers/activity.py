"""The two ends of a layer's product in the right dtype: its input, and its bias."""

import keras
import tensorflow as tf

from tfcredit.errors import UserError


def as_activity(inputs: tf.Tensor, dtype: str, layer: str, rule: str) -> tf.Tensor:
    """A layer's input as its products take it: dense and floating, as Keras' layers make it.

    Args:
        inputs: A tensor `[n, ...]` of any dtype that Keras' layer takes; sparse and ragged ones
            are filled with zeros.
        dtype: That of the layer's kernel in its products.
        layer: The layer's name, for the message.
        rule: The rule's name, for the message.

    Returns:
        A tensor `[n, ...]` of the dtype that Keras' product of the two has.

    Raises:
        UserError: A complex input.
    """
    if isinstance(inputs, tf.SparseTensor | tf.RaggedTensor):
        inputs = keras.ops.convert_to_tensor(inputs, sparse=False, ragged=False)
    x = tf.convert_to_tensor(inputs)
    refuse_complex(x.dtype, layer, rule)
    return tf.cast(x, keras.backend.result_type(x.dtype.name, dtype))


def refuse_complex(dtype: tf.DType | str, layer: str, rule: str) -> None:
    """Refuses an input for which no rule is made.

    Args:
        dtype: That of the input.
        layer: See `as_activity`.
        rule: See `as_activity`.

    Raises:
        UserError: It is complex.
    """
    dtype = tf.as_dtype(dtype)
    if dtype.is_complex:
        raise UserError(
            f"layer {layer!r} has rule {rule!r}, which takes real inputs, not {dtype.name}: give "
            "real and imaginary parts as features, or use rule='backprop'."
        )


def add_bias(y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`y` + `bias`, whose gradient is summed in float32 or better.

    In half precision TensorFlow 2.21 sums it in the dtype of `y` on CPUs: 4,096 ones give 256 in
    bfloat16 (`bias_add`, as Keras' layers have it) and 2,048 in float16.

    Args:
        y: The pre-activation.
        bias: Shaped to be added to it, in the dtype of its variable.

    Returns:
        A tensor of the shape and dtype of `y`.
    """
    if y.dtype == bias.dtype and y.dtype.size >= 4:
        # As Keras' layers have it: TensorFlow fuses it with the product and the activation.
        return tf.nn.bias_add(y, bias) if bias.shape.rank == 1 else y + bias

    @tf.custom_gradient
    def add(y, bias):
        def gradient(dy):
            lacking = dy.shape.rank - bias.shape.rank
            shared = [i for i, size in enumerate(bias.shape) if size == 1]
            axes = [*range(lacking), *(lacking + i for i in shared)]
            total = tf.reduce_sum(tf.cast(dy, tf.float32), axes)
            return dy, tf.cast(tf.reshape(total, bias.shape), bias.dtype)

        return y + tf.cast(bias, y.dtype), gradient

    return add(y, bias)
