from . import (
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

__version__: str

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
