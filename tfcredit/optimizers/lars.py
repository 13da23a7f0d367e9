"""LARS, which Keras lacks: momentum whose steps are a share of each weight's own length."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfcredit.optimizers.fused import resource
from tfcredit.optimizers.synchronous import SumClipping


@keras.saving.register_keras_serializable("tfcredit")
class LARS(SumClipping, keras.optimizers.Optimizer):
    """Momentum, whose gradients are scaled to the length of their weight.

    A gradient g of a weight w counts as |w| / |g| g: steps have the length `learning_rate` |w|
    before momentum, whatever the scale of g (as long as float32 holds its squares), and keep its
    direction, as those of Adam don't. That makes it an optimizer of feedback kernels, whose
    gradients are small where activity is. Where w or g is zero, g counts as it is, and so it does
    in vectors, such as biases. LARS keeps one tensor for each weight, and none with `momentum=0`.

    Source: You et al. 2017, "Large Batch Training of Convolutional Networks" (arXiv:1708.03888),
    algorithm 1 without weight decay, with the trust coefficient in the rate.

    Args:
        learning_rate: A number or a Keras schedule: the length of a step, as a share of the
            weight's. Default 0.003.
        momentum: Share of the last step in the next one. Default 0.9.
        name: The optimizer's name.
        **kwargs: As `keras.optimizers.Optimizer` takes them.
    """

    def __init__(
        self, learning_rate: Any = 0.003, momentum: float = 0.9, name: str = "lars", **kwargs: Any
    ):
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = float(momentum)
        self.momentums: list = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the slots.

        Args:
            variables: The weights.
        """
        if self.built:
            return
        super().build(variables)
        if self.momentum:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """See `keras.optimizers.Optimizer`.

        Args:
            gradient: The weight's gradient.
            variable: The weight.
            learning_rate: The rate of this step.
        """
        # Rows of `IndexedSlices` that are of one place are added up.
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        rate = tf.cast(learning_rate, gradient.dtype)
        if gradient.shape.rank > 1:
            rate *= _ratio(tf.convert_to_tensor(variable), gradient)
        if not self.momentum:
            handle = resource(variable)
            tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=rate, delta=gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=resource(variable),
            accum=resource(self.momentums[self._get_variable_index(variable)]),
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, gradient.dtype),
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return super().get_config() | {"momentum": self.momentum}


def _ratio(weight: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """|w| / |g|; 1 where one of them is zero."""
    square, own = tf.nn.l2_loss(weight), tf.nn.l2_loss(gradient)
    known, one = (square > 0) & (own > 0), tf.ones_like(own)
    return tf.where(known, tf.sqrt(square / tf.where(known, own, one)), one)
