"""Initial values of feedback kernels: independent of the forward kernel, or at an angle to it."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.seeding import default_seed, derive


@keras.saving.register_keras_serializable("tfcredit")
class AtAngle(keras.initializers.Initializer):
    """A kernel at a chosen angle to the forward kernel, and of its norm.

    Args:
        degrees: Angle between the two kernels as vectors, in [0, 180].
        seed: Integer seed of the direction; `None` draws one from Python's generator, as Keras.

    Raises:
        UserError: An angle outside the range.
    """

    def __init__(self, degrees: float, seed: int | None = None):
        if not 0 <= degrees <= 180:
            raise UserError(f"degrees={degrees!r} must be an angle from 0 to 180.")
        self.degrees = float(degrees)
        self.seed = default_seed() if seed is None else seed

    def __call__(self, shape, dtype=None, kernel=None):
        """The kernel. `kernel` is the forward kernel that it stands at an angle to."""
        if kernel is None:
            raise UserError(
                "AtAngle needs the forward kernel: use it as feedback_initializer of a feedback "
                "layer, not as kernel_initializer."
            )
        kernel = tf.convert_to_tensor(kernel)
        other = tf.random.stateless_normal(kernel.shape, [self.seed, 0], dtype=kernel.dtype)
        square = tf.maximum(tf.reduce_sum(kernel**2), np.finfo(kernel.dtype.as_numpy_dtype).tiny)
        other -= tf.reduce_sum(other * kernel) / square * kernel
        other *= tf.norm(kernel) / tf.norm(other)
        turn = math.radians(self.degrees)
        return tf.cast(math.cos(turn) * kernel + math.sin(turn) * other, dtype or kernel.dtype)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return {"degrees": self.degrees, "seed": self.seed}


def feedback_initializer(identifier: Any, kernel_initializer: Callable, seed: int) -> Callable:
    """The initializer of a feedback kernel, independent of the forward kernel's.

    Args:
        identifier: An initializer, its name or config, or `None` for the distribution of
            `kernel_initializer` with a seed of its own (Glorot uniform where the forward kernel
            is not drawn at random).
        kernel_initializer: The forward kernel's initializer.
        seed: The layer's seed.

    Returns:
        A Keras initializer.

    Raises:
        UserError: Both are one instance, or have the same distribution and seed, which gives
            B = W: a Keras initializer returns the same values each time.
    """
    own_seed = derive(seed, "feedback_kernel")
    if identifier is None:
        config = _config(kernel_initializer)
        if "seed" not in config:
            return keras.initializers.GlorotUniform(seed=own_seed)
        return type(kernel_initializer).from_config({**config, "seed": own_seed})
    initializer = keras.initializers.get(identifier)
    config = _config(initializer)
    same = initializer is kernel_initializer or (
        config.get("seed") is not None
        and type(initializer) is type(kernel_initializer)
        and config == _config(kernel_initializer)
    )
    if same:
        raise UserError(
            f"feedback_initializer={initializer!r} gives the values of kernel_initializer, so that "
            "feedback and forward kernel would be equal: give it a seed of its own, leave it out, "
            "or use tfcredit.initializers.AtAngle(0) if equality is meant."
        )
    if "seed" in config and config["seed"] is None:
        return type(initializer).from_config({**config, "seed": own_seed})
    return initializer


def _config(initializer) -> dict:
    """The initializer's arguments; none for a plain function."""
    return initializer.get_config() if hasattr(initializer, "get_config") else {}
