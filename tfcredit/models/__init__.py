"""Networks made of feedback layers: one builder per architecture, used for every rule.

`get("resnet18", rule="symmetric_alignment")` returns an ordinary functional `keras.Model`
that `compile` and `fit` train; `names()` lists what there is; `load` reads a saved one.
"""

from tfcredit.models.loading import load
from tfcredit.models.perturbation import PerturbedNetwork
from tfcredit.models.registry import get, names
from tfcredit.models.wiring import unwire, wire

__all__ = ["PerturbedNetwork", "get", "load", "names", "unwire", "wire"]
