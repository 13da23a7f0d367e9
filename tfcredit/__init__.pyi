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
from .comparison import compare, train

__version__: str

__all__ = [
    "analysis",
    "callbacks",
    "compare",
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
    "train",
]
