"""LARS, which Keras lacks: SGD whose step is a share of each weight's own length."""

from typing import Any

import keras
import tensorflow as tf

from tfcredit.optimizers import fused


@keras.saving.register_keras_serializable("tfcredit")
class LARS(fused.SGD):
    """SGD with momentum, whose gradients are scaled to the length of their weight.

    A gradient g of a weight w counts as |w| / |g| g: steps have the length `learning_rate` |w|
    before momentum, whatever the scale of g, and keep its direction, as those of Adam don't. That
    makes it an optimizer of feedback kernels, whose gradients are small where activity is. Where w
    or g is zero, g counts as it is. It keeps one tensor for each weight, and none with
    `momentum=0`.

    Source: You et al. 2017, "Large Batch Training of Convolutional Networks" (arXiv:1708.03888),
    algorithm 1 without weight decay, with the trust coefficient in the rate.

    Args:
        learning_rate: A number or a Keras schedule: the length of a step, as a share of the
            weight's. Default 0.003.
        momentum: Share of the last step in the next one. Default 0.9.
        nesterov: Whether momentum is Nesterov's. Default False.
        name: The optimizer's name.
        **kwargs: As `keras.optimizers.SGD` takes them.
    """

    def __init__(
        self,
        learning_rate: Any = 0.003,
        momentum: float = 0.9,
        nesterov: bool = False,
        name: str = "lars",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, momentum, nesterov, name=name, **kwargs)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """See `keras.optimizers.Optimizer`.

        Args:
            gradient: The weight's gradient.
            variable: The weight.
            learning_rate: The rate of this step.
        """
        dense = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
        weight = tf.convert_to_tensor(variable)
        square, own = tf.nn.l2_loss(weight), tf.nn.l2_loss(tf.cast(dense, weight.dtype))
        known = (square > 0) & (own > 0)
        one = tf.ones_like(own)
        ratio = tf.where(known, tf.sqrt(square / tf.where(known, own, one)), one)
        super().update_step(gradient, variable, tf.cast(learning_rate, weight.dtype) * ratio)
