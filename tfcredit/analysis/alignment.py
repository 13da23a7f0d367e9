"""How well the feedback kernels stand to the forward kernels."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfcredit.errors import UserError
from tfcredit.layers import FeedbackLayer
from tfcredit.layers.twins import FEEDBACK


def kernel_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of `model`, nested ones included, that have one kernel, with or without B.

    They are the feedback layers, and the Keras layers of the same kinds.

    Args:
        model: A built Keras model.

    Returns:
        The layers in call order.
    """
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if (isinstance(layer, FeedbackLayer) or type(layer) in FEEDBACK)
        and getattr(layer, "kernel", None) is not None
    ]


def feedback_layers(model: keras.Model) -> list[FeedbackLayer]:
    """The layers of `model`, nested ones included, that have a feedback kernel; in call order."""
    return [layer for layer in kernel_layers(model) if has_feedback_kernel(layer)]


def has_feedback_kernel(layer: keras.Layer) -> bool:
    """Whether errors travel through a B of the layer's own."""
    return getattr(layer, "feedback_kernel", None) is not None


def labels(layers: Sequence[keras.Layer]) -> list[dict]:
    """What begins each layer's record.

    Args:
        layers: Layers of one model.

    Returns:
        Per layer `layer`: its name, or its path where several have that name; and `rule`.
    """
    count = Counter(layer.name for layer in layers)
    return [
        {
            "layer": layer.name if count[layer.name] == 1 else layer.path,
            "rule": layer.rule.name if isinstance(layer, FeedbackLayer) else "backprop",
        }
        for layer in layers
    ]


def angle(a: Any, b: Any) -> float:
    """Angle between two arrays as vectors, in degrees in [0, 180].

    NaN if one is zero or not finite.

    Args:
        a: An array or tensor.
        b: Another of the same size.

    Returns:
        Degrees in [0, 180]; NaN if one is zero.
    """
    a, b = (np.asarray(v, np.float64).ravel() for v in (a, b))
    # atan2 keeps small angles, where the cosine would round to 1.
    norms = np.linalg.norm(a), np.linalg.norm(b)
    if not all(norms) or not np.isfinite(norms).all():
        return float("nan")
    a, b = a / norms[0], b / norms[1]
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


def alignment(model: keras.Model) -> list[dict]:
    """Alignment of each layer's feedback kernel B with its forward kernel W.

    Args:
        model: A built Keras model.

    Returns:
        One record per layer with a feedback kernel, in call order: `layer` (its name), `rule`,
        `angle` (between W and B, degrees), `norm_ratio` (|B| / |W|) and `sign_agreement` (the
        share of synapses whose weights in W and B have the same sign).

    Raises:
        UserError: No layer has a feedback kernel.
    """
    layers = feedback_layers(model)
    if not layers:
        raise UserError(
            f"no layer of the model {model.name!r} has a feedback kernel to compare with W: "
            "convert it by tfcredit.convert.to_feedback(model, rule=...)."
        )
    return [
        label | _compared(layer.kernel, layer.feedback_kernel)
        for layer, label in zip(layers, labels(layers), strict=True)
    ]


def _compared(kernel, feedback_kernel) -> dict:
    w, b = (keras.ops.convert_to_numpy(v).astype(np.float64) for v in (kernel, feedback_kernel))
    finite = np.isfinite(w).all() and np.isfinite(b).all()
    return {
        "angle": angle(w, b),
        "norm_ratio": float(np.linalg.norm(b) / np.linalg.norm(w)) if w.any() else float("nan"),
        "sign_agreement": float(np.mean(np.sign(w) == np.sign(b))) if finite else float("nan"),
    }
