"""Angles and spectra of the errors that a rule sends, beside those of backprop."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfcredit.analysis.alignment import has_feedback_kernel
from tfcredit.analysis.batch import BatchMeasure, Call, gradients
from tfcredit.analysis.spectra import spectrum_records
from tfcredit.analysis.statistics import bootstrap_mean
from tfcredit.layers.routing import backprop_errors
from tfcredit.precision import least_normal, spacing


class ErrorAngles(BatchMeasure):
    """Angles of what travels through B against what would travel through W, on a fixed batch.

    Angles are degrees, each the mean over samples of the angle between the two as vectors over all
    features and positions of a sample. A sample with a zero vector has no angle and is left out;
    the record is NaN if none is left or one is not finite. A record has

    - `projection_angle`: op(x; W) and op(x; B), for the layer's input x;
    - `local_error_angle`: opT(dy; B) and opT(dy; W), for the error dy that the rule brings;
    - `error_angle`, `error_norm_ratio`: the error dy of the layer's pre-activation (with bias)
      under the rule, against backprop's through the *whole* network; the ratio is |rule| /
      |backprop| over the batch;
    - `gradient_angle`, `gradient_norm_ratio`: likewise of the gradient of W, over the batch;
    - `error_reference_norm`, `gradient_reference_norm`: |backprop|, which these are measured
      against, and `error_below_floor`, `gradient_below_floor`: 1 where that is no more than the
      rounding of the dtype can make of nothing, so that the angle says nothing, else 0.

    The floor of errors is the `tfcredit.precision.spacing` of their dtype times the largest
    `error_reference_norm` of any layer: so much is left where parts as large cancel; or the least
    normal number of the dtype in each place, whichever is more. The floor of a gradient is the
    spacing times |x| |dy|, the largest norm that the product of input and errors can have. Why:
    Hao, Wan & Zhai 2026 (arXiv:2606.21126) fault angles to references at the numerical floor.

    The first two are for layers with a feedback kernel only. B is the one that the errors of this
    call travel through. Cost: one forward and two backward passes, and four products per layer.

    Args:
        x: See `BatchMeasure`.
        y: See `BatchMeasure`.
        loss: See `BatchMeasure`.
        training: See `BatchMeasure`.
        confidence: Level, such as 0.95, of bootstrap intervals for the means over samples, added
            as `NAME_low` and `NAME_high`. Default: none.

    Raises:
        UserError: As `BatchMeasure`.
    """

    needs_labels = True

    def __init__(
        self,
        x: Any,
        y: Any,
        loss: Any = None,
        training: bool = True,
        confidence: float | None = None,
    ):
        super().__init__(x, y, loss, training)
        self.confidence = confidence

    def _graph(self, loss, calls):
        # Of a layer that is called several times, the gradient is that of all calls together.
        sources = [call.y for call in calls] + [call.layer.kernel.value for call in calls]
        routed, true = _both(loss, sources)
        errors, true_errors = routed[: len(calls)], true[: len(calls)]
        largest = tf.reduce_max([_norm(error) for error in true_errors])
        return [
            self._compared(call, error, true_error)
            | {"gradient": inner_products(gradient[None], true_gradient[None])}
            | {"floors": _floors(call.x, true_error, largest)}
            for call, error, true_error, gradient, true_gradient in zip(
                calls, errors, true_errors, routed[len(calls) :], true[len(calls) :], strict=True
            )
        ]

    def _compared(self, call: Call, error: tf.Tensor, true_error: tf.Tensor) -> dict:
        found = {}
        if has_feedback_kernel(call.layer):
            connection, x = call.layer.connection, tf.convert_to_tensor(call.x)
            w, b = (
                tf.cast(v, x.dtype) for v in (call.layer.kernel.value, call.layer.feedback_product)
            )
            found["projection"] = inner_products(connection.op(x, w), connection.op(x, b))
            back = [connection.op_transpose(error, kernel, tf.shape(x)) for kernel in (b, w)]
            found["local_error"] = inner_products(*back)
        return found | {"error": inner_products(error, true_error)}

    def _records(self, label, values):
        record = dict(label)
        # Of several calls: their squares add up as those of the norms.
        floors = np.sqrt(np.square(values.pop("floors")).sum(0)).tolist()
        floors = dict(zip(("error", "gradient"), floors, strict=True))
        for name, parts in values.items():
            products = np.concatenate(parts, axis=1)
            angles = sample_angles(products)
            record[f"{name}_angle"] = float(angles.mean()) if len(angles) else float("nan")
            if self.confidence is not None and name != "gradient":
                interval = bootstrap_mean(angles, self.confidence)
                record[f"{name}_angle_low"] = interval["low"]
                record[f"{name}_angle_high"] = interval["high"]
            if name in ("error", "gradient"):
                norm, true_norm = np.sqrt(products[:2].sum(1)).tolist()
                ratio = norm / true_norm if true_norm else float("nan")  # Python's: no warnings
                record[f"{name}_norm_ratio"] = ratio
                record[f"{name}_reference_norm"] = true_norm
                record[f"{name}_below_floor"] = int(true_norm <= floors[name])
        return [record]


class ErrorSpectra(BatchMeasure):
    """Singular values of each layer's errors as a matrix [samples, features and positions].

    A record per singular value, as those of `tfcredit.analysis.spectra`: `matrix` is `"error"`
    (the error of the pre-activation under the rule) or `"true_error"` (under backprop). At most `n`
    of them are not zero: `effective_ranks` of the records says how many directions the errors of
    the samples span.

    Args:
        x: See `BatchMeasure`.
        y: See `BatchMeasure`.
        loss: See `BatchMeasure`.
        training: See `BatchMeasure`.

    Raises:
        UserError: As `BatchMeasure`.
    """

    needs_labels = True

    def __init__(self, x: Any, y: Any, loss: Any = None, training: bool = True):
        super().__init__(x, y, loss, training)

    def _graph(self, loss, calls):
        errors, true_errors = _both(loss, [call.y for call in calls])
        return [
            {"error": _gram(error), "true_error": _gram(true_error)}
            for error, true_error in zip(errors, true_errors, strict=True)
        ]

    def _records(self, label, values):
        records = []
        for name, grams in values.items():
            # Several calls of a layer stand side by side, as more features.
            gram = np.sum(grams, axis=0)
            squares = np.full(len(gram), np.nan)
            if np.isfinite(gram).all():
                squares = np.linalg.eigvalsh(gram)[::-1].clip(0.0)
            records += spectrum_records(label | {"matrix": name}, np.sqrt(squares))
        return records


def inner_products(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The inner products from which angles and norms of each sample follow.

    Args:
        a: A tensor `[n, ...]`.
        b: Another of its shape.

    Returns:
        float64 `[3, n]`: the products of a with a, b with b, and a with b.
    """
    a, b = (tf.reshape(tf.cast(v, tf.float64), [tf.shape(v)[0], -1]) for v in (a, b))
    return tf.stack([tf.einsum("ni,ni->n", *pair) for pair in ((a, a), (b, b), (a, b))])


def sample_angles(products: np.ndarray) -> np.ndarray:
    """Angles from `inner_products`.

    Args:
        products: float64 `[3, n]`.

    Returns:
        float64: degrees, of the samples in which neither vector is zero; NaN if one is not finite.
    """
    aa, bb, ab = products[:, (products[0] != 0) & (products[1] != 0)]
    # In float64 the cosine resolves 1e-6 degrees; with the root of the product it is 1 for a = b.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.degrees(np.arccos(np.clip(ab / np.sqrt(aa * bb), -1.0, 1.0)))


def _both(loss: tf.Tensor, sources: Sequence) -> tuple[list, list]:
    """The gradients as the rules route them, and backprop's."""
    routed = gradients(loss, sources)
    with backprop_errors():
        return routed, gradients(loss, sources)


def _norm(tensor: Any) -> tf.Tensor:
    """The norm of all numbers of a tensor, which may be sparse or ragged."""
    if isinstance(tensor, tf.SparseTensor):
        tensor = tensor.values
    if isinstance(tensor, tf.RaggedTensor):
        tensor = tensor.flat_values
    return tf.norm(tf.cast(tensor, tf.float64))


def _floors(x: Any, error: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
    """The norms that errors and gradient must exceed, as `ErrorAngles` states them."""
    places = tf.sqrt(tf.cast(tf.size(error), tf.float64))
    of_error = tf.maximum(spacing(error.dtype) * largest, least_normal(error.dtype) * places)
    return tf.stack([of_error, spacing(error.dtype) * _norm(x) * _norm(error)])


def _gram(error: tf.Tensor) -> tf.Tensor:
    rows = tf.reshape(tf.cast(error, tf.float64), [tf.shape(error)[0], -1])
    return tf.matmul(rows, rows, transpose_b=True)
