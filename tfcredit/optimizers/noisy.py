"""Noisy updates: noise on the weights after every step of another optimizer."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfcredit import noise, seeding
from tfcredit.errors import UserError
from tfcredit.optimizers.delegating import DelegatingOptimizer, is_feedback_kernel
from tfcredit.optimizers.registry import resolve

DISTRIBUTIONS = ("normal", "uniform")
CHOICES = ("all", "feedback")


@keras.saving.register_keras_serializable("tfcredit")
class NoisyOptimizer(DelegatingOptimizer):
    """Adds learning rate * noise to the weights after each step (Kunin et al. 2020).

    The learning rate is that of the optimizer that updates the variable, in that step. Only
    variables with a gradient get noise, with gradient accumulation only in the steps that change
    them, and a constraint is applied once more. The noise is a function of seed, position of the
    variable in the model and step alone: alike on all replicas, and the same after a resume.

    Example:
        >>> NoisyOptimizer("sgd", variance=1e-4, seed=3).distribution
        'normal'
    """

    def __init__(
        self,
        inner: keras.optimizers.Optimizer | dict[str, Any] | str,
        distribution: str = "normal",
        variance: float = 1e-4,
        variables: str = "all",
        seed: int | None = None,
        name: str = "noisy",
        loss_scale_factor: float | None = None,
    ) -> None:
        """Make the optimizer.

        Args:
            inner: The optimizer to follow, such as a `PartitionedOptimizer`: an instance, a config
                or a name.
            distribution: "normal" or "uniform", both with mean 0.
            variance: Variance of the noise before the learning rate multiplies it, >= 0.
            variables: "all", or "feedback" for the feedback kernels alone, those that follow the
                forward optimizer included.
            seed: Seed of the noise; None draws one that `keras.utils.set_random_seed` controls.
            name: The optimizer's name.
            loss_scale_factor: Factor of the loss, which the gradients are divided by; None for 1.

        Raises:
            UserError: If an argument is none of these.
        """
        super().__init__(name=name, loss_scale_factor=loss_scale_factor)
        self.inner = resolve(inner, "inner")
        for key, value, known in (
            ("distribution", distribution, DISTRIBUTIONS),
            ("variables", variables, CHOICES),
        ):
            if value not in known:
                raise UserError(f"{key} is {value!r}; choose {known[0]!r} or {known[1]!r}.")
        if not isinstance(variance, int | float) or not 0 <= variance < math.inf:
            raise UserError(f"variance is {variance!r}; give a number >= 0.")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise UserError(f"seed is {seed!r}; give a whole number, or None to draw one.")
        self.distribution = distribution
        self.variance = float(variance)
        self.noisy_variables = variables
        self.seed = seeding.default_seed() if seed is None else seed

    @property
    def inner_optimizers(self) -> Sequence[keras.optimizers.Optimizer]:
        """The one optimizer that is followed."""
        return (self.inner,)

    def _update(self, gradients: list[Any], variables: list[Any]) -> None:
        noisy = [
            variable
            for gradient, variable in zip(gradients, variables, strict=True)
            if gradient is not None
            and (self.noisy_variables == "all" or is_feedback_kernel(variable))
        ]
        # Read before the inner step moves the schedules on.
        scales = [self._scale(variable) for variable in noisy]
        self._apply_to(self.inner, gradients, variables)
        tf.__internal__.distribute.interim.maybe_merge_call(
            self._add_noise,
            self._distribution_strategy,
            noisy,
            scales,
            tf.cast(self._iterations, tf.int32),
        )

    def _scale(self, variable: Any) -> tf.Tensor:
        """The learning rate of this step, or 0 where the step only accumulates gradients."""
        optimizer = self.optimizer_of(variable)
        rate = tf.cast(optimizer.learning_rate, tf.float32)
        every = optimizer.gradient_accumulation_steps
        if not every:
            return rate
        return tf.where((optimizer._iterations + 1) % every == 0, rate, 0.0)

    def _add_noise(
        self,
        distribution: tf.distribute.Strategy,
        variables: list[Any],
        scales: list[tf.Tensor],
        step: tf.Tensor,
    ) -> None:
        """Update the variables on all devices; called once for all replicas."""
        for variable, scale in zip(variables, scales, strict=True):
            seed = seeding.derive(self.seed, "noise", self._get_variable_index(variable))

            def add(value, scale, step, seed=seed, constraint=variable.constraint) -> None:
                drawn = self._noise(value.shape, tf.stack([tf.constant(seed, tf.int32), step]))
                value.assign_add(tf.cast(scale * drawn, value.dtype))
                if constraint is not None:
                    value.assign(constraint(value))

            raw = variable.value if isinstance(variable, keras.Variable) else variable
            distribution.extended.update(raw, add, args=(scale, step), group=False)

    def _noise(self, shape: tf.TensorShape, seed: tf.Tensor) -> tf.Tensor:
        """Float32 noise of mean 0 and the variance asked for."""
        return math.sqrt(self.variance) * noise.drawn(seed, shape, tf.float32, self.distribution)

    def get_config(self) -> dict[str, Any]:
        """The inner optimizer's config and the arguments, with the seed in use."""
        return self._config(
            inner=keras.optimizers.serialize(self.inner),
            distribution=self.distribution,
            variance=self.variance,
            variables=self.noisy_variables,
            seed=self.seed,
        )

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "NoisyOptimizer":
        """Make the optimizer that a config describes.

        Args:
            config: Config that `get_config` returned.
            custom_objects: Classes by name that the inner optimizer needs.

        Returns:
            A new optimizer with no steps done.
        """
        inner = resolve(config["inner"], "inner", custom_objects)
        return cls._from_arguments(**{**config, "inner": inner})
