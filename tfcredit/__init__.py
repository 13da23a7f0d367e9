"""Learning without weight transport: Keras networks with separate feedback kernels."""

from tfcredit import (
    analysis,
    callbacks,
    data,
    initializers,
    layers,
    models,
    optimizers,
    rules,
    schedules,
)

__version__ = "0.1.0"

__all__ = [
    "analysis",
    "callbacks",
    "data",
    "initializers",
    "layers",
    "models",
    "optimizers",
    "rules",
    "schedules",
]
