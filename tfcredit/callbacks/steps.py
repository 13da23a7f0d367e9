"""The number of steps that a training has taken."""

import keras


def steps_taken(model: keras.Model) -> int:
    """Optimizer steps of a compiled model."""
    # Not int() of the variable, which a mirrored one refuses (Keras 3.15).
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))
