"""One optimizer for the forward weights, another for the feedback kernels."""

from collections.abc import Sequence
from typing import Any

import keras

from tfcredit.errors import UserError
from tfcredit.optimizers.delegating import DelegatingOptimizer, is_feedback_kernel, skip_step
from tfcredit.optimizers.registry import resolve


@keras.saving.register_keras_serializable("tfcredit")
class PartitionedOptimizer(DelegatingOptimizer):
    """Sends feedback kernels to one Keras optimizer and all other variables to another.

    A variable goes to `feedback` if its name is "feedback_kernel", unless it has a true attribute
    `follows_forward`: the kernels that Kolen-Pollack learns must get exactly the forward kernels'
    update (Akrout et al. 2019). Clipping, weight decay, moving averages and gradient accumulation
    are the inner optimizers' own and act within a group; a global norm is the group's. Of several
    replicas the sum is clipped, where Keras clips each replica's share; accumulation and
    overwriting by averages, which Keras can't run there, are refused.

    Why not `keras.optimizers.MultiOptimizer` (measured with Keras 3.15.1): of 9 variables of an
    Adam and SGD pair, `tf.train.Checkpoint` stores 2 and restoring the others does nothing, while
    `assert_consumed` passes; it has no learning rate; and a group whose gradients are all None, as
    under backprop or feedback alignment, raises.

    Example:
        >>> optimizer = PartitionedOptimizer(forward="sgd", feedback="adam")
        >>> round(float(optimizer.feedback.learning_rate), 6)
        0.001
    """

    def __init__(
        self,
        forward: keras.optimizers.Optimizer | dict[str, Any] | str,
        feedback: keras.optimizers.Optimizer | dict[str, Any] | str,
        name: str = "partitioned",
        loss_scale_factor: float | None = None,
        feedback_rests: bool = False,
    ) -> None:
        """Make the optimizer.

        Args:
            forward: Optimizer of the forward weights: an instance, a config or a name. Its learning
                rate is this optimizer's `learning_rate`, the one that Keras callbacks read and set.
            feedback: Optimizer of the feedback kernels, of the same kinds.
            name: The optimizer's name.
            loss_scale_factor: Factor of the loss, which the gradients are divided by; None for 1.
            feedback_rests: True to leave `feedback` as it is in a step in which no feedback kernel
                has a gradient, for an alignment that acts in some steps only. False to count the
                step, so that a schedule goes on.

        Raises:
            UserError: If an optimizer cannot be made or wrapped, or both are the same instance.
        """
        super().__init__(name=name, loss_scale_factor=loss_scale_factor)
        self.forward = resolve(forward, "forward")
        self.feedback = resolve(feedback, "feedback")
        self.feedback_rests = bool(feedback_rests)
        if self.forward is self.feedback:
            raise UserError(
                f"forward and feedback are one {type(self.forward).__name__} instance; give two, "
                "as each counts its steps and keeps its slots for its own variables."
            )

    @property
    def inner_optimizers(self) -> Sequence[keras.optimizers.Optimizer]:
        """The forward and the feedback optimizer."""
        return self.forward, self.feedback

    def build(self, variables: Sequence[Any]) -> None:
        """Sort the variables into the two groups and create their slots.

        Args:
            variables: The model's trainable variables.
        """
        # By key, as a strategy or a custom loop may hand the raw TensorFlow variables to `apply`,
        # which know nothing of `follows_forward`.
        self._feedback_keys = {
            self._var_key(variable)
            for variable in variables
            if is_feedback_kernel(variable) and not getattr(variable, "follows_forward", False)
        }
        super().build(variables)

    def _owner(self, variable: Any) -> keras.optimizers.Optimizer:
        return self.feedback if self._var_key(variable) in self._feedback_keys else self.forward

    def _update(self, gradients: list[Any], variables: list[Any]) -> None:
        for inner in self.inner_optimizers:
            pairs = [
                (gradient, variable)
                for gradient, variable in zip(gradients, variables, strict=True)
                if self._owner(variable) is inner
            ]
            if any(gradient is not None for gradient, _ in pairs):
                self._apply_to(inner, *(list(part) for part in zip(*pairs, strict=True)))
            elif inner is self.forward or not self.feedback_rests:
                skip_step(inner)

    def get_config(self) -> dict[str, Any]:
        """The configs of both optimizers and the other arguments."""
        return self._config(
            forward=keras.optimizers.serialize(self.forward),
            feedback=keras.optimizers.serialize(self.feedback),
            feedback_rests=self.feedback_rests,
        )

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "PartitionedOptimizer":
        """Make the optimizer that a config describes.

        Args:
            config: Config that `get_config` returned.
            custom_objects: Classes by name that the inner optimizers need.

        Returns:
            A new optimizer with no steps done.
        """
        inner = {
            role: resolve(config[role], role, custom_objects) for role in ("forward", "feedback")
        }
        return cls._from_arguments(**{**config, **inner})
