"""The rates of the task loss and of the alignment loss, for training in phases."""

import dataclasses

import keras
import tensorflow as tf

from tfcredit.schedules.base import StepSchedule, check_alternation, check_number


@dataclasses.dataclass(frozen=True)
class _PhaseRate(StepSchedule):
    """The rate of one loss in a training of phases; subclasses say when it acts."""

    rate: float = 1.0
    steps_per_epoch: float = 1.0
    delay_epochs: float = 0.0
    alternate_steps: int = 0
    boundaries: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        check_number("rate", self.rate, signed=True)
        check_number("delay_epochs", self.delay_epochs)
        check_number("steps_per_epoch", self.steps_per_epoch, positive=True)
        check_alternation(self.alternate_steps)
        self._check_drops()

    def _at(self, step: tf.Tensor) -> tf.Tensor:
        rate = tf.fill(tf.shape(step), tf.constant(self.rate, tf.float32))
        return tf.where(self._acts(step), self._dropped(step, rate, self.rate), 0.0)

    def _delayed(self, step: tf.Tensor) -> tf.Tensor:
        """Whether the task still waits."""
        return step < self._first_step(self.delay_epochs)

    def _mirrors(self, step: tf.Tensor) -> tf.Tensor:
        """Whether this step is the alignment's: every (alternate_steps + 1)-th, from step 0 on."""
        return step % (self.alternate_steps + 1) == 0


@keras.saving.register_keras_serializable("tfcredit")
class TaskRate(_PhaseRate):
    """Multiplier of the task loss: 0 while the task waits and in alignment steps.

    Give `AlignmentRate` the same delay and alternation, and the two make a training in phases:
    first only the alignment learns, then one alignment step ("mirror") takes turns with
    `alternate_steps` task steps ("engaged"), as in Akrout et al. 2019 and Kunin et al. 2020.

    Args:
        rate: The multiplier when the loss acts.
        steps_per_epoch: Optimizer steps of one epoch.
        delay_epochs: Epochs that the task waits.
        alternate_steps: Task steps after each alignment step; 0 takes both losses in every step.
        boundaries: Epochs at which the rate drops, increasing.
        factors: One multiplier of `rate` per boundary.

    Raises:
        UserError: If a number is out of range, or the drops do not fit each other.
    """

    def _acts(self, step: tf.Tensor) -> tf.Tensor:
        engaged = ~self._delayed(step)
        return engaged & ~self._mirrors(step) if self.alternate_steps else engaged


@keras.saving.register_keras_serializable("tfcredit")
class AlignmentRate(_PhaseRate):
    """Multiplier of the alignment loss: 0 in task steps once the task has begun; see `TaskRate`.

    Args:
        rate: The multiplier when the loss acts.
        steps_per_epoch: Optimizer steps of one epoch.
        delay_epochs: Epochs that the task waits: the alignment then acts in every step.
        alternate_steps: Task steps after each alignment step; 0 takes both losses in every step.
        boundaries: Epochs at which the rate drops, increasing.
        factors: One multiplier of `rate` per boundary.

    Raises:
        UserError: If a number is out of range, or the drops do not fit each other.
    """

    def _acts(self, step: tf.Tensor) -> tf.Tensor:
        return self._delayed(step) | self._mirrors(step) | (not self.alternate_steps)
