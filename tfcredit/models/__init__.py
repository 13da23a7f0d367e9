"""Networks made of feedback layers: one builder per architecture, used for every rule.

`get("resnet18", rule="symmetric_alignment")` returns an ordinary functional `keras.Model`
that `compile` and `fit` train; `names()` lists what there is; `load` reads a saved one.
"""

from tfcredit.models.direct import add_direct_feedback, remove_direct_feedback
from tfcredit.models.loading import load
from tfcredit.models.registry import get, names

__all__ = ["add_direct_feedback", "get", "load", "names", "remove_direct_feedback"]
