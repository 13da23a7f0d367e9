"""The learning rate of the paper: warm-up, then step drops."""

import dataclasses

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.schedules.base import StepSchedule, check_alternation, check_number


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
    check_number("learning_rate", learning_rate)
    check_number("batch_size", batch_size, positive=True)
    check_number("base_batch_size", base_batch_size, positive=True)
    return learning_rate * batch_size / base_batch_size


@keras.saving.register_keras_serializable("tfcredit")
@dataclasses.dataclass(frozen=True)
class WarmupStepDecay(StepSchedule):
    """Learning rate with a linear warm-up and step drops (Kunin et al. 2020).

    The rate climbs from 0 to `learning_rate` over the warm-up, and from each boundary on it is
    `learning_rate` times that boundary's factor.

    Args:
        learning_rate: The full rate, after any `scale_learning_rate`.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the warm-up; 0 starts at the full rate.
        boundaries: Epochs at which the rate drops, increasing; an empty tuple for none.
        factors: One multiplier of `learning_rate` per boundary.
        delay_epochs: Epochs by which the whole schedule, held at its start, comes later: for the
            task loss that `TaskRate` delays.
        alternate_steps: The `alternate_steps` of `TaskRate`: warm-up and boundaries are stretched
            by `alternate_steps + 1`, the steps that each task step then takes at most.
        drop_offset_epochs: For the alignment beside a task delayed by so many epochs: the drops
            come later by them, to stay with the task's, and there is no warm-up.

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
    delay_epochs: float = 0.0
    alternate_steps: int = 0
    drop_offset_epochs: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("learning_rate", "warmup_epochs", "delay_epochs", "drop_offset_epochs"):
            check_number(name, getattr(self, name))
        check_number("steps_per_epoch", self.steps_per_epoch, positive=True)
        check_alternation(self.alternate_steps)
        self._check_drops()
        if self.delay_epochs and self.drop_offset_epochs:
            raise UserError(
                f"delay_epochs={self.delay_epochs} and drop_offset_epochs="
                f"{self.drop_offset_epochs} exclude each other; give the delay to the task's "
                "schedule and the offset to the alignment's."
            )

    def _at(self, step: tf.Tensor) -> tf.Tensor:
        shift = self.delay_epochs + self.drop_offset_epochs
        stretch = self.alternate_steps + 1
        return self._dropped(step, self._warming(step), self.learning_rate, stretch, shift)

    def _warming(self, step: tf.Tensor) -> tf.Tensor:
        """The rate if nothing ever dropped."""
        length = self.warmup_epochs * (self.alternate_steps + 1) * self.steps_per_epoch
        if not length or self.drop_offset_epochs:
            return tf.fill(tf.shape(step), tf.constant(self.learning_rate, tf.float32))
        done = tf.cast(step, tf.float32) - self.delay_epochs * self.steps_per_epoch
        return self.learning_rate * tf.clip_by_value(done / length, 0.0, 1.0)
