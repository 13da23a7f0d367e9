"""How well the feedback kernels stand to the forward kernels."""

from typing import Any

import keras
import numpy as np

from tfcredit.layers import FeedbackLayer


def feedback_layers(model: keras.Model) -> list[FeedbackLayer]:
    """The layers of `model`, nested ones included, that have a feedback kernel; in call order."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, FeedbackLayer) and layer.feedback_kernel is not None
    ]


def angle(a: Any, b: Any) -> float:
    """Angle between two arrays as vectors.

    Args:
        a: An array or tensor.
        b: Another of the same size.

    Returns:
        Degrees in [0, 180]; NaN if one is zero.
    """
    a, b = (np.asarray(v, np.float64).ravel() for v in (a, b))
    # atan2 keeps small angles, where the cosine would round to 1.
    norms = np.linalg.norm(a), np.linalg.norm(b)
    if not all(norms):
        return float("nan")
    a, b = a / norms[0], b / norms[1]
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


def alignment(model: keras.Model) -> list[dict]:
    """Alignment of each layer's feedback kernel B with its forward kernel W.

    Args:
        model: A built Keras model.

    Returns:
        One record per layer with a feedback kernel, in call order: `layer` (its name), `rule`,
        `angle` (between W and B, degrees) and `norm_ratio` (|B| / |W|).
    """
    records = []
    for layer in feedback_layers(model):
        w, b = np.asarray(layer.kernel, np.float64), np.asarray(layer.feedback_kernel, np.float64)
        records.append(
            {
                "layer": layer.name,
                "rule": layer.rule.name,
                "angle": angle(w, b),
                "norm_ratio": float(np.linalg.norm(b) / np.linalg.norm(w)),
            }
        )
    return records
