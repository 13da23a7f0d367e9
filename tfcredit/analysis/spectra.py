"""Singular values and effective rank of kernels."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfcredit.analysis.alignment import has_feedback_kernel, kernel_layers, labels
from tfcredit.errors import UserError

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D


def kernel_matrix(layer: keras.Layer, kernel: Any) -> np.ndarray:
    """A kernel as a matrix [fan_in, fan_out]: a column is what one output unit sums.

    Args:
        layer: The layer that it belongs to, of one of the kinds in `tfcredit.layers`.
        kernel: Its W or B. Convolutions: `[*space, channels, filters]` becomes
            `[space * channels, filters]` (channels per group); depthwise `[space, channels *
            multiplier]`; transposed ones `[space * channels, filters]`, einsum layers `[contracted
            axes, other axes]`.

    Returns:
        A float64 matrix.
    """
    kernel = keras.ops.convert_to_numpy(kernel).astype(np.float64)
    if isinstance(layer, keras.layers.EinsumDense):
        names, outputs = layer.equation.split(",")[1].split("->")
        summed = [axis for axis, name in enumerate(names) if name not in outputs]
        kernel = np.moveaxis(kernel, summed, range(len(summed)))
        return kernel.reshape(np.prod(kernel.shape[: len(summed)], dtype=int), -1)
    if isinstance(layer, _DEPTHWISE):
        return kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])
    if isinstance(layer, _TRANSPOSED):
        kernel = np.swapaxes(kernel, -1, -2)
    return kernel.reshape(-1, kernel.shape[-1])


def singular_values(matrix: Any) -> np.ndarray:
    """The singular values of a matrix, descending; NaN if an entry is not finite.

    Args:
        matrix: An array `[rows, columns]`.

    Returns:
        float64 `[min(rows, columns)]`.
    """
    matrix = np.asarray(matrix, np.float64)
    if not np.isfinite(matrix).all():
        return np.full(min(matrix.shape), np.nan)
    return np.linalg.svd(matrix, compute_uv=False)


def effective_rank(values: Any) -> float:
    """The exponential of the entropy of singular values, as shares (Roy and Vetterli 2007).

    It is r for r equal singular values, and never more than the rank.

    Args:
        values: Singular values; none negative.

    Returns:
        A number of dimensions, at least 1; NaN if all values are zero or one is not finite.
    """
    from scipy.stats import entropy  # imports slowly, and is needed here only

    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all() or not values.any():
        return float("nan")
    return float(np.exp(entropy(values)))


def spectra(model: keras.Model) -> list[dict]:
    """Singular values of each layer's kernels as matrices [fan_in, fan_out] (`kernel_matrix`).

    Args:
        model: A built Keras model.

    Returns:
        A record per singular value: `layer`, `rule`, `matrix` (`"W"`, and with a feedback kernel
        `"B"` and `"WtB"`, which is W^T B `[fan_out, fan_out]`), `index` from 0 and
        `singular_value`, descending.

    Raises:
        UserError: The model has no layer with a kernel.
    """
    layers = kernel_layers(model)
    if not layers:
        raise UserError(f"no layer of the model {model.name!r} has a kernel: nothing to measure.")
    records, of_layer = [], labels(model)
    for layer in layers:
        label = of_layer[id(layer)]
        matrices = {"W": kernel_matrix(layer, layer.kernel)}
        if has_feedback_kernel(layer):
            matrices["B"] = kernel_matrix(layer, layer.feedback_product)
            matrices["WtB"] = matrices["W"].T @ matrices["B"]
        for name, matrix in matrices.items():
            records += spectrum_records(label | {"matrix": name}, singular_values(matrix))
    return records


def spectrum_records(label: dict, values: np.ndarray) -> list[dict]:
    """A record per singular value.

    Args:
        label: What all begin with.
        values: The singular values.

    Returns:
        Records with `index` and `singular_value` besides.
    """
    return [label | {"index": i, "singular_value": float(v)} for i, v in enumerate(values)]


def effective_ranks(spectrum: Sequence[dict]) -> list[dict]:
    """Effective rank of each layer's matrices.

    Args:
        spectrum: Records of `spectra` or `ErrorSpectra`, of one model at one time.

    Returns:
        A record per layer: `layer`, `rule`, and `rank_MATRIX` for each of its matrices.
    """
    values: dict[tuple, list[float]] = {}
    for record in spectrum:
        key = record["layer"], record["rule"], record["matrix"]
        values.setdefault(key, []).append(record["singular_value"])
    records: dict[str, dict] = {}
    for (layer, rule, matrix), found in values.items():
        record = records.setdefault(layer, {"layer": layer, "rule": rule})
        record[f"rank_{matrix}"] = effective_rank(found)
    return list(records.values())
