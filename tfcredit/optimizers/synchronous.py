"""Updates that are right beside the reads of their own step, and on several replicas."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfcredit.errors import UserError

OFFSET = re.compile(r"(^|/)(bias|beta|gamma)(/replica_\d+)?(:\d+)?$")
"""Finds the names of biases, and of scales and offsets of normalisation."""


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
        return list(tensors)

    joint = iter(together(*present))
    flat = [None if tensor is None else next(joint) for tensor in flat]
    return tf.nest.pack_sequence_as(gradients, flat, expand_composites=True)


class SumClipping:
    """Mixin of Keras optimizers: of several replicas the sum is clipped, not each one's share.

    It stands before the Keras class in the bases.

    Args:
        *args: Positional arguments of the Keras class.
        decay_vectors: False to keep `weight_decay` off variables of one dimension, and off biases,
            scales and offsets of normalisation of more: GRUs and attention have such. What Keras'
            `exclude_from_weight_decay` excludes is not in an optimizer's config; this is.
        **kwargs: Keyword arguments of the Keras class.
    """

    def __init__(self, *args: Any, decay_vectors: bool = True, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.decay_vectors = bool(decay_vectors)

    def get_config(self) -> dict[str, Any]:
        """See `keras.optimizers.Optimizer.get_config`."""
        config = super().get_config()
        return config if self.decay_vectors else {**config, "decay_vectors": False}

    def _use_weight_decay(self, variable: Any) -> bool:
        if not self.decay_vectors and (len(variable.shape) < 2 or OFFSET.search(variable.name)):
            return False
        return super()._use_weight_decay(variable)

    def build(self, variables: Sequence[Any]) -> None:
        """See `keras.optimizers.Optimizer.build`.

        Args:
            variables: The model's trainable variables.
        """
        if not self.built:
            refuse_replicas(self)
        super().build(variables)

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        return _clipped_sum(self, super()._clip_gradients, grads)


def clipped_after_sum(optimizer: keras.optimizers.Optimizer, gradients: list[Any]) -> list[Any]:
    """Gradients whose sum over the replicas is clipped as an optimizer asks for.

    Keras (3.15) clips each replica's share before it sums them: of N replicas the norm may then be
    N times the bound. What is returned here is each replica's equal share of the clipped sum, in
    which Keras finds nothing to clip.

    Args:
        optimizer: A Keras optimizer; without clipping nothing is done.
        gradients: This replica's; some may be None.

    Returns:
        The gradients in the same order.
    """
    if isinstance(optimizer, SumClipping) or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return gradients  # which the optimizer itself clips
    return _clipped_sum(optimizer, optimizer._clip_gradients, gradients)


def _clipped_sum(
    optimizer: keras.optimizers.Optimizer, clip: Callable, gradients: list[Any]
) -> list[Any]:
    """An equal share for each replica of the sum of the gradients as `clip` leaves it."""
    replica = tf.distribute.get_replica_context()
    clips = any((optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue))
    if not clips or replica is None or replica.num_replicas_in_sync == 1:
        return clip(gradients)
    present = [gradient for gradient in gradients if gradient is not None]
    summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, present)
    clipped = iter(clip(summed))
    share = 1.0 / replica.num_replicas_in_sync
    return [g if g is None else tf.math.scalar_mul(share, next(clipped)) for g in gradients]


def refuse_replicas(optimizer: keras.optimizers.Optimizer) -> None:
    """Refuses what Keras optimizers can't do on several replicas.

    Args:
        optimizer: An optimizer that is to be built under the current strategy.

    Raises:
        UserError: It accumulates gradients, or overwrites weights with their moving averages, and
            there are several replicas: Keras (3.15) would raise in the middle of the first step.
    """
    count = tf.distribute.get_strategy().num_replicas_in_sync
    if count == 1:
        return
    for option in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        value = getattr(optimizer, option)
        if value:
            raise UserError(
                f"{option}={value} of the optimizer {optimizer.name!r} does not run on {count} "
                "replicas, as Keras would need a condition in each: leave it out, or train on one "
                "device (tfcredit train accumulates on any number: --accumulation_steps)."
            )
