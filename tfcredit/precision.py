"""How finely a dtype tells numbers apart, and how small they get."""

import tensorflow as tf

# Bits behind the point, and the exponent of the least normal number.
_BITS = {
    tf.float16: (10, -14),
    tf.bfloat16: (7, -126),
    tf.float32: (23, -126),
    tf.float64: (52, -1022),
}


def spacing(dtype: tf.DType | str) -> float:
    """The distance from 1 to the next number of a floating dtype (its machine epsilon).

    Args:
        dtype: float16, bfloat16, float32 or float64.

    Returns:
        The distance.

    Example:
        >>> spacing("bfloat16")
        0.0078125
    """
    return 2.0 ** -_BITS[tf.as_dtype(dtype)][0]


def least_normal(dtype: tf.DType | str) -> float:
    """The least positive number that a floating dtype holds at full precision.

    Args:
        dtype: float16, bfloat16, float32 or float64.

    Returns:
        The number.

    Example:
        >>> round(least_normal("float16"), 7)
        6.1e-05
    """
    return 2.0 ** _BITS[tf.as_dtype(dtype)][1]
