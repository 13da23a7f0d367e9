"""What all schedules share: the call on integer steps, the config, drops and checks."""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from tfcredit.errors import UserError


class StepSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """What the schedules share: a config made of their fields, and the call on an integer step."""

    def __call__(self, step: Any) -> tf.Tensor:
        """The value at a step.

        Args:
            step: Steps done so far, an integer or an integer tensor of any shape.

        Returns:
            A float32 tensor of the shape of `step`.
        """
        return self._at(tf.cast(step, tf.int64))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule; lists in place of tuples, as JSON has them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def _first_step(self, epoch: float) -> int:
        """The first step at or after a moment given in epochs."""
        return math.ceil(round(epoch * self.steps_per_epoch, 6))  # 0.07 * 100 * 10 > 70 by rounding

    def _check_drops(self) -> None:
        """Turn boundaries and factors into tuples of floats, or say what is wrong with them."""
        for name in ("boundaries", "factors"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list):
                raise UserError(f"{name} is {values!r}; give a sequence of numbers.")
            for value in values:
                check_number(name, value)
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if len(self.boundaries) != len(self.factors):
            raise UserError(
                f"{len(self.boundaries)} boundaries {self.boundaries} stand against "
                f"{len(self.factors)} factors {self.factors}; give one factor per boundary."
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise UserError(
                f"boundaries are {self.boundaries}; give them in epochs, each later than the last."
            )

    def _dropped(
        self, step: tf.Tensor, value: tf.Tensor, scale: float, stretch: float = 1, shift: float = 0
    ) -> tf.Tensor:
        """`value` until the first boundary, then `scale` times the factor of the last one passed.

        Args:
            step: int64 steps.
            value: float32 value before the first drop.
            scale: What the factors multiply.
            stretch: What multiplies the boundaries.
            shift: Epochs added to the stretched boundaries.

        Returns:
            A float32 tensor of the shape of `value`.
        """
        for boundary, factor in zip(self.boundaries, self.factors, strict=True):
            passed = step >= self._first_step(boundary * stretch + shift)
            value = tf.where(passed, tf.constant(scale * factor, tf.float32), value)
        return value


def check_number(name: str, value: Any, positive: bool = False, signed: bool = False) -> None:
    """Refuse what is not a finite number of the wanted sign: not negative unless told otherwise."""
    wanted = "a finite number" if signed else "a number above 0" if positive else "a number >= 0"
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or not (signed or number > 0 or (number == 0 and not positive)):
        raise UserError(f"{name} is {value!r}; give {wanted}.")


def check_alternation(steps: Any) -> None:
    """Refuse what is not a number of task steps."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UserError(
            f"alternate_steps is {steps!r}; give the whole number of task steps that follow each "
            "alignment step, or 0 for both losses in every step."
        )
