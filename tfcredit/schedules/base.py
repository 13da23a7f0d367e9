"""The base of all schedules: the call on integer steps, and the config."""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule


class StepSchedule(LearningRateSchedule):
    """A schedule over integer steps, whose config is made of its fields."""

    def __call__(self, step: Any) -> tf.Tensor:
        """The value at a step.

        Args:
            step: Steps done so far, an integer or an integer tensor of any shape.

        Returns:
            A float32 tensor of the shape of `step`.
        """
        return self._at(tf.cast(step, tf.int64))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule, as JSON has them."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def _first_step(self, epoch: float) -> int:
        """The first step at or after a moment given in epochs."""
        return math.ceil(round(epoch * self.steps_per_epoch, 6))  # 0.07 * 100 * 10 > 70 by rounding


def _plain(value: Any) -> Any:
    if isinstance(value, LearningRateSchedule):
        return keras.optimizers.schedules.serialize(value)
    return list(value) if isinstance(value, tuple) else value
