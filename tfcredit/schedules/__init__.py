"""Schedules: learning rates, the rates of the two losses, the coefficients of a rule.

Each is a `keras.optimizers.schedules.LearningRateSchedule`: a function of the step alone, which an
optimizer can take as its learning rate, that Keras saves with the model and that means the same
run eagerly, in a graph or compiled by XLA. Epochs are turned into steps once, in Python, and steps
are compared as integers, so that no drop moves by a step through rounding.
"""

from tfcredit.schedules.coefficient import CoefficientSchedule
from tfcredit.schedules.learning_rate import WarmupStepDecay, scale_learning_rate
from tfcredit.schedules.rates import AlignmentRate, TaskRate, TaskSchedule

__all__ = [
    "AlignmentRate",
    "CoefficientSchedule",
    "TaskRate",
    "TaskSchedule",
    "WarmupStepDecay",
    "scale_learning_rate",
]
