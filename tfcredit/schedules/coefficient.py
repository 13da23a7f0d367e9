"""A rule's coefficient as a function of the step."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfcredit import checks
from tfcredit.errors import UserError
from tfcredit.schedules.base import StepSchedule

CHANGES = (None, "linear", "exponential")


@keras.saving.register_keras_serializable("tfcredit")
@dataclasses.dataclass(frozen=True)
class CoefficientSchedule(StepSchedule):
    """A rule's coefficient over the training: 0 outside a window, changing inside.

    With t the epochs since the window opened, the coefficient is `value + rate * t` (linear) or
    `value * exp(rate * t)` (exponential). A `cycle` replaces t by a triangle wave that climbs from
    0 to half a cycle and back. As in the code of Kunin et al. 2020.

    Args:
        value: The coefficient where the window opens.
        steps_per_epoch: Optimizer steps of one epoch.
        epochs: Epochs of the whole training.
        start: Where the window opens, a fraction of the training in [0, 1].
        stop: Where it closes, a fraction of the training in [start, 1], itself still inside.
        change: None for a constant coefficient, "linear" or "exponential".
        rate: Change per epoch, absolute if linear, relative if exponential.
        cycle: Epochs of one period of the triangle wave; 0 for no wave.

    Raises:
        UserError: If a number is out of range or `change` is unknown.
    """

    value: float
    steps_per_epoch: float
    epochs: float
    start: float = 0.0
    stop: float = 1.0
    change: str | None = None
    rate: float = 0.0
    cycle: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("value", "rate"):
            checks.number(name, getattr(self, name))
        for name in ("steps_per_epoch", "epochs"):
            checks.number(name, getattr(self, name), above=0)
        for name in ("start", "stop", "cycle"):
            checks.number(name, getattr(self, name), at_least=0)
        if not self.start <= self.stop <= 1:
            raise UserError(
                f"start={self.start} and stop={self.stop} are no window; give fractions of the "
                "training with 0 <= start <= stop <= 1."
            )
        if self.change not in CHANGES:
            raise UserError(f"change={self.change!r}: choose None, 'linear' or 'exponential'.")
        if self.change is None and (self.rate or self.cycle):
            raise UserError(
                f"rate={self.rate} and cycle={self.cycle} act only on a changing coefficient; "
                "give change='linear' or change='exponential', or leave them out."
            )

    def _at(self, step: tf.Tensor) -> tf.Tensor:
        opening = self._first_step(self.start * self.epochs)
        closing = math.floor(round(self.stop * self.epochs * self.steps_per_epoch, 6))
        inside = (step >= opening) & (step <= closing)
        return tf.where(inside, self._value_after(self._elapsed(step)), 0.0)

    def _elapsed(self, step: tf.Tensor) -> tf.Tensor:
        """Epochs since the window opened, folded into the triangle wave if there is one."""
        time = tf.cast(step, tf.float32) / self.steps_per_epoch - self.start * self.epochs
        if not self.cycle:
            return time
        return self.cycle / 2 - tf.abs(tf.math.floormod(time, self.cycle) - self.cycle / 2)

    def _value_after(self, time: tf.Tensor) -> tf.Tensor:
        if self.change == "linear":
            return self.value + self.rate * time
        if self.change == "exponential":
            return self.value * tf.exp(self.rate * time)
        return tf.fill(tf.shape(time), tf.constant(self.value, tf.float32))
