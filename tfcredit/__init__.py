"""Learning without weight transport: Keras networks with separate feedback kernels."""

from tfcredit import (
    analysis,
    callbacks,
    convert,
    data,
    initializers,
    layers,
    models,
    optimizers,
    primitives,
    rules,
    schedules,
    testing,
)

__version__ = "0.1.0"

__all__ = [
    "analysis",
    "callbacks",
    "convert",
    "data",
    "initializers",
    "layers",
    "models",
    "optimizers",
    "primitives",
    "rules",
    "schedules",
    "testing",
]
