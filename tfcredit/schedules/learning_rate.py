"""The learning rate of the paper: warm-up, then step drops."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfcredit import checks
from tfcredit.errors import UserError
from tfcredit.schedules.base import StepSchedule
from tfcredit.schedules.rates import TaskSchedule


def scale_learning_rate(learning_rate: float, batch_size: int, base_batch_size: int = 256) -> float:
    """Scale a learning rate linearly with the batch size (Goyal et al. 2017).

    Args:
        learning_rate: The rate that suits `base_batch_size`.
        batch_size: Samples of one optimizer step, over all replicas.
        base_batch_size: Samples of one step for which `learning_rate` was chosen.

    Returns:
        `learning_rate * batch_size / base_batch_size`.

    Raises:
        UserError: If the rate is negative or a batch size is not positive.
    """
    checks.number("learning_rate", learning_rate, at_least=0)
    checks.number("batch_size", batch_size, above=0)
    checks.number("base_batch_size", base_batch_size, above=0)
    return learning_rate * batch_size / base_batch_size


@keras.saving.register_keras_serializable("tfcredit")
@dataclasses.dataclass(frozen=True)
class WarmupStepDecay(StepSchedule):
    """Learning rate with a linear warm-up and step drops (Kunin et al. 2020).

    The rate climbs from 0 to `learning_rate` over the warm-up. From each boundary on it is
    `learning_rate` times that boundary's factor.

    Args:
        learning_rate: The full rate, after any `scale_learning_rate`.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the warm-up; 0 starts at the full rate.
        boundaries: Epochs at which the rate drops, increasing; an empty tuple for none.
        factors: One multiplier of `learning_rate` per boundary.

    Raises:
        UserError: If a number is negative, not finite, or the drops do not fit each other.

    Example:
        >>> float(WarmupStepDecay(0.1, steps_per_epoch=10)(25))
        0.05000000074505806
    """

    learning_rate: float
    steps_per_epoch: float
    warmup_epochs: float = 5.0
    boundaries: tuple[float, ...] = (30.0, 60.0, 80.0)
    factors: tuple[float, ...] = (0.1, 0.01, 0.001)

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("learning_rate", "warmup_epochs"):
            checks.number(name, getattr(self, name), at_least=0)
        checks.number("steps_per_epoch", self.steps_per_epoch, above=0)
        for name in ("boundaries", "factors"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.boundaries) != len(self.factors):
            raise UserError(
                f"{len(self.boundaries)} boundaries {self.boundaries} stand against "
                f"{len(self.factors)} factors {self.factors}; give one factor per boundary."
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise UserError(
                f"boundaries are {self.boundaries}; give them in epochs, each later than the last."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StepSchedule:
        """Make the schedule of a config; the delay of an earlier one is `TaskSchedule`'s now.

        Args:
            config: What `get_config` returned.

        Returns:
            The schedule.

        Raises:
            UserError: If the config has an argument that no longer exists.
        """
        config = dict(config)
        delay = config.pop("delay_epochs", 0)
        for name in ("alternate_steps", "drop_offset_epochs"):
            if value := config.pop(name, 0):
                raise UserError(
                    f"WarmupStepDecay has no {name}={value} any more; load the model with "
                    "compile=False and compile it with a TaskSchedule or later boundaries."
                )
        schedule = cls(**config)
        return TaskSchedule(schedule, schedule.steps_per_epoch, delay) if delay else schedule

    def _at(self, step: tf.Tensor) -> tf.Tensor:
        value = self._warming(step)
        for boundary, factor in zip(self.boundaries, self.factors, strict=True):
            passed = step >= self._first_step(boundary)
            value = tf.where(passed, tf.constant(self.learning_rate * factor, tf.float32), value)
        return value

    def _warming(self, step: tf.Tensor) -> tf.Tensor:
        """The rate if nothing ever dropped."""
        length = self.warmup_epochs * self.steps_per_epoch
        if not length:
            return tf.fill(tf.shape(step), tf.constant(self.learning_rate, tf.float32))
        done = tf.cast(step, tf.float32)
        return self.learning_rate * tf.clip_by_value(done / length, 0.0, 1.0)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, tuple | list):
        raise UserError(f"{name} is {values!r}; give a sequence of numbers.")
    return tuple(checks.number(name, value, at_least=0) for value in values)
