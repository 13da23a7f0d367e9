"""Networks made of feedback layers: one builder per architecture, used for every rule.

`get("resnet18", rule="symmetric_alignment")` returns an ordinary functional `keras.Model`
that `compile` and `fit` train; `names()` lists what there is.
"""

from tfcredit.models.registry import get, names

__all__ = ["get", "names"]
