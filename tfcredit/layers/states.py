"""State of layers that calls change, outside of training too, and putting it back."""

import contextlib
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf


def random_states(layer: keras.Layer) -> Iterator[keras.Variable]:
    """The states of a network's random generators, such as those of dropout.

    Args:
        layer: The layer or network.

    Yields:
        Each state, in the order of the layers.
    """
    for each in layer._flatten_layers():
        for generator in each._seed_generators:
            yield generator.state


@contextlib.contextmanager
def unchanged(variables: Iterable[keras.Variable]) -> Iterator[None]:
    """Puts back the values of variables at the end.

    Args:
        variables: The variables, of any shapes and dtypes.

    Yields:
        Nothing.
    """
    variables = list(variables)
    # Copies, as a tensor that is read of a variable may share its memory.
    values = [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
