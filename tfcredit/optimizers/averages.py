"""The moving averages of weights that Keras optimizers keep, and the weights in their stead."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfcredit.layers.states import unchanged
from tfcredit.optimizers.delegating import DelegatingOptimizer, constrain


def averages(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[keras.Variable, keras.Variable]]:
    """Finds the moving averages that an optimizer keeps.

    Args:
        optimizer: A built optimizer, of whatever kind.

    Returns:
        Each weight that has one (`use_ema`) and its moving average.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    inside = optimizer.optimizers if isinstance(optimizer, DelegatingOptimizer) else [optimizer]
    return [
        (weight, average)
        for each in inside
        if each.use_ema
        for weight, average in zip(
            each._trainable_variables, each._model_variables_moving_average, strict=True
        )
        if average is not None
    ]


@contextlib.contextmanager
def averaged(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Puts moving averages in the place of the weights for a while; then all is as it was.

    A weight's constraint is applied to its average: Keras averages values from before it.

    Args:
        optimizer: A built optimizer; without moving averages nothing is done.

    Yields:
        Nothing.
    """
    pairs = averages(optimizer)
    with unchanged(weight for weight, _ in pairs):
        for weight, average in pairs:
            weight.assign(tf.convert_to_tensor(average))
        constrain(weight for weight, _ in pairs)
        yield


def start_averages(optimizer: keras.optimizers.Optimizer) -> None:
    """Gives moving averages the values of the weights, as Keras does in the first step only.

    Args:
        optimizer: A built optimizer.
    """
    for weight, average in averages(optimizer):
        average.assign(tf.convert_to_tensor(weight))
