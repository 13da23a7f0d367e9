"""Training in phases: the rates of task loss and alignment loss, and the steps of the task."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tfcredit import checks
from tfcredit.errors import UserError
from tfcredit.schedules.base import StepSchedule


class _Phases(StepSchedule):
    """First the task waits; then one alignment step and `alternate_steps` task steps take turns."""

    def task_steps(self, step: Any) -> tf.Tensor:
        """Count the steps that the task takes.

        Args:
            step: Steps of both kinds, an integer or an integer tensor of any shape.

        Returns:
            An int64 tensor of the shape of `step`: how many of the steps before it are the task's.
        """
        begin = self._first_step(self.delay_epochs)
        end = tf.maximum(tf.cast(step, tf.int64), begin)
        if not self.alternate_steps:
            return end - begin
        turn = self.alternate_steps + 1
        mirrors = -(-end // turn) + (-begin // turn)  # rounded up: step 0 is the first of them
        return end - begin - mirrors

    def _check_phases(self) -> None:
        checks.number("steps_per_epoch", self.steps_per_epoch, above=0)
        checks.number("delay_epochs", self.delay_epochs, at_least=0)
        checks.integer("alternate_steps", self.alternate_steps, at_least=0)

    def _waits(self, step: tf.Tensor) -> tf.Tensor:
        """True while the task waits."""
        return step < self._first_step(self.delay_epochs)

    def _mirrors(self, step: tf.Tensor) -> tf.Tensor:
        """True in the alignment's steps: every (alternate_steps + 1)-th, from step 0 on."""
        return step % (self.alternate_steps + 1) == 0


@dataclasses.dataclass(frozen=True)
class _Rate(_Phases):
    """The rate of one loss in a training of phases; subclasses say when it acts."""

    rate: float = 1.0
    steps_per_epoch: float = 1.0
    delay_epochs: float = 0.0
    alternate_steps: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.number("rate", self.rate)
        self._check_phases()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "_Rate":
        """Make the schedule of a config; an earlier one may state that it has no drops.

        Args:
            config: What `get_config` returned.

        Returns:
            The schedule.

        Raises:
            UserError: If the config has drops.
        """
        config = dict(config)
        drops = [config.pop(name, None) for name in ("boundaries", "factors")]
        if any(drops):
            raise UserError(
                f"{cls.__name__} has no boundaries and factors any more; give a rule coefficients "
                "that are schedules instead."
            )
        return cls(**config)

    def _at(self, step: tf.Tensor) -> tf.Tensor:
        return tf.where(self._acts(step), tf.constant(self.rate, tf.float32), 0.0)


@keras.saving.register_keras_serializable("tfcredit")
class TaskRate(_Rate):
    """Multiplier of the task loss: 0 while the task waits and in alignment steps.

    Give `AlignmentRate` the same delay and alternation, and the two make a training in phases:
    first only the alignment learns, then one alignment step ("mirror") takes turns with
    `alternate_steps` task steps ("engaged"), as in Akrout et al. 2019 and Kunin et al. 2020.

    Args:
        rate: The multiplier when the loss acts.
        steps_per_epoch: Optimizer steps of one epoch.
        delay_epochs: Epochs that the task waits.
        alternate_steps: Task steps after each alignment step; 0 takes both losses in every step.

    Raises:
        UserError: If a number is out of range.
    """

    def _acts(self, step: tf.Tensor) -> tf.Tensor:
        engaged = ~self._waits(step)
        return engaged & ~self._mirrors(step) if self.alternate_steps else engaged


@keras.saving.register_keras_serializable("tfcredit")
class AlignmentRate(_Rate):
    """Multiplier of the alignment loss: 0 in task steps once the task has begun; see `TaskRate`.

    Args:
        rate: The multiplier when the loss acts.
        steps_per_epoch: Optimizer steps of one epoch.
        delay_epochs: Epochs that the task waits: the alignment then acts in every step.
        alternate_steps: Task steps after each alignment step; 0 takes both losses in every step.

    Raises:
        UserError: If a number is out of range.
    """

    def _acts(self, step: tf.Tensor) -> tf.Tensor:
        return self._waits(step) | self._mirrors(step) | (not self.alternate_steps)


@keras.saving.register_keras_serializable("tfcredit")
@dataclasses.dataclass(frozen=True)
class TaskSchedule(_Phases):
    """A schedule over the steps of the task alone; see `TaskRate` for the phases.

    It keeps its first value while the task waits, and does not move in alignment steps. A learning
    rate thus goes through warm-up and decay in the steps that the task takes.

    Args:
        schedule: The schedule as a function of the task's steps, or its config.
        steps_per_epoch: Optimizer steps of one epoch, of both kinds.
        delay_epochs: Epochs that the task waits.
        alternate_steps: Task steps after each alignment step; 0 makes every step the task's too.

    Raises:
        UserError: If a number is out of range.

    Example:
        >>> from keras.optimizers.schedules import CosineDecay
        >>> rate = TaskSchedule(CosineDecay(0.5, 20), steps_per_epoch=10, delay_epochs=2)
        >>> [round(float(rate(step)), 3) for step in (0, 20, 30, 40)]
        [0.5, 0.5, 0.25, 0.0]
    """

    schedule: LearningRateSchedule
    steps_per_epoch: float = 1.0
    delay_epochs: float = 0.0
    alternate_steps: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        self._check_phases()
        if isinstance(self.schedule, Mapping):
            made = keras.optimizers.schedules.deserialize(self.schedule)
            object.__setattr__(self, "schedule", made)

    def _at(self, step: tf.Tensor) -> tf.Tensor:
        return self.schedule(self.task_steps(step))
