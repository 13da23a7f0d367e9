"""The barrier that keeps the updates of a step from overtaking its reads."""

from typing import Any

import tensorflow as tf


def all_at_once(gradients: list[Any]) -> list[Any]:
    """The same gradients, none of them available before all are.

    Every gradient must be that of the weights before the step, but nothing else sees to it:
    Grappler (TensorFlow 2.21) may drop the control edge from a variable's read to its update. A
    kernel that an alignment term reads on its own was then read after its update, in 6 % of the
    steps of a small network in deterministic mode. A call that is not inlined needs all of its
    inputs before it runs; Grappler takes apart anything less, `tf.identity_n` included.

    Args:
        gradients: Tensors, `tf.IndexedSlices` or None.

    Returns:
        The gradients in the same order, None where there was None.
    """
    if tf.executing_eagerly():
        return gradients
    flat = tf.nest.flatten(gradients, expand_composites=True)
    present = [tensor for tensor in flat if tensor is not None]

    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def together(*tensors: tf.Tensor) -> list[tf.Tensor]:
        return [tf.identity(tensor) for tensor in tensors]

    joint = iter(together(*present))
    flat = [None if tensor is None else next(joint) for tensor in flat]
    return tf.nest.pack_sequence_as(gradients, flat, expand_composites=True)
