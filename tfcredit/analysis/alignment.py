"""The angles and norms of feedback kernels beside their forward kernels."""

from typing import Any

import keras
import numpy as np

from tfcredit.analysis.places import with_one_kernel
from tfcredit.errors import UserError
from tfcredit.layers import FeedbackLayer


def kernel_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of `model`, nested ones included, that have one kernel, with or without B.

    They are the feedback layers, and the Keras layers of the same kinds.

    Args:
        model: A built Keras model.

    Returns:
        The layers in the order of `tfcredit.convert.report`: call order; in custom layers and
        subclassed models the order in which these hold them.
    """
    return [place.layer for place in with_one_kernel(model)]


def feedback_layers(model: keras.Model) -> list[FeedbackLayer]:
    """The layers of `model`, nested ones included, that have a feedback kernel; in call order."""
    return [layer for layer in kernel_layers(model) if has_feedback_kernel(layer)]


def has_feedback_kernel(layer: keras.Layer) -> bool:
    """True if errors travel through a B of the layer's own, or through factors of one."""
    if not isinstance(layer, FeedbackLayer):
        return False
    return layer.feedback_kernel is not None or layer.rule.feedback_rank is not None


def labels(model: keras.Model) -> dict[int, dict]:
    """The labels that begin the records of `kernel_layers`.

    Args:
        model: A built Keras model.

    Returns:
        Of each layer's id `layer`, its path as `tfcredit.convert.report` has it (the name of a
        layer that is in no other one), and `rule`.
    """
    return {
        id(place.layer): {
            "layer": place.path,
            "rule": place.layer.rule.name if isinstance(place.layer, FeedbackLayer) else "backprop",
        }
        for place in with_one_kernel(model)
    }


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
        One record per layer with a feedback kernel, in call order: `layer` (its path), `rule`,
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
    label = labels(model)
    return [label[id(layer)] | _compared(layer.kernel, layer.feedback_product) for layer in layers]


def _compared(kernel, feedback_kernel) -> dict:
    w, b = (keras.ops.convert_to_numpy(v).astype(np.float64) for v in (kernel, feedback_kernel))
    finite = np.isfinite(w).all() and np.isfinite(b).all()
    return {
        "angle": angle(w, b),
        "norm_ratio": float(np.linalg.norm(b) / np.linalg.norm(w)) if w.any() else float("nan"),
        "sign_agreement": float(np.mean(np.sign(w) == np.sign(b))) if finite else float("nan"),
    }
