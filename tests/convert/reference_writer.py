"""Checkpoints as the authors' TensorFlow 1 code wrote them, with made-up values."""

import numpy as np
import tensorflow as tf

from tests.models.golden_resnet import NETWORKS

STEP = 450360


def authors_values(network, slots=(), seed=0):
    """Name -> value of every variable, and of the slots of those that are trained."""
    random, values = np.random.default_rng(seed), {}
    for name, shape in NETWORKS[network]["variables"]:
        values[name] = random.random(shape, "float32")
        if not name.rsplit("/", 1)[-1].startswith("moving"):
            for slot in slots:
                values[f"{name}/{slot}"] = random.random(shape, "float32")
    return values


def write_checkpoint(prefix, values, scope="", step=STEP):
    """Writes variables with the op of TensorFlow 1's `Saver`.

    Args:
        prefix: What the files' names begin with.
        values: Name -> array.
        scope: What to put before each name.
        step: The global step; None leaves it out.

    Returns:
        `prefix` as a string.
    """
    tensors = {scope + name: tf.constant(value) for name, value in values.items()}
    if step is not None:
        tensors["global_step"] = tf.constant(step, tf.int64)
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tensors[name] for name in names],
    )
    return str(prefix)
