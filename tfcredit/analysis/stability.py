"""Linear stability: the step size and the coefficients at which feedback kernels diverge.

For sums of primitives of degree 1 and 2, dR/dB = A[B] - c with A linear, symmetric and fixed by the
batch. Everything here follows from A's eigenvalues; docs/stability.md has the derivation.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit.analysis.alignment import angle, feedback_layers, labels
from tfcredit.analysis.batch import differentiable
from tfcredit.analysis.krylov import ROUNDING, Operator, extreme_eigenvalues
from tfcredit.errors import UserError
from tfcredit.layers import FeedbackLayer
from tfcredit.optimizers.partitioned import PartitionedOptimizer
from tfcredit.optimizers.registry import resolve


def spectrum(layer: FeedbackLayer, x: Any, steps: int = 64) -> dict:
    """Extreme eigenvalues of A = d(dR/dB)/dB of a layer on a batch, and the fixed point of B.

    By Lanczos' method and conjugate gradients on the rule's own gradient, which need no matrix and
    serve every kind of layer. Of many different eigenvalues the largest is the first to converge;
    the smallest is an upper bound. Takes at most 2 * `steps` + 6 gradients of R, in float64.

    Args:
        layer: A built layer whose B descends its rule's R, or only errors.
        x: The layer's input `[n, ...]`, or a list of inputs where one step calls it several times.
        steps: Most steps of either method.

    Returns:
        `largest_eigenvalue`, `smallest_eigenvalue` and `condition_number`, their ratio; and of the
        fixed point A[B] = c that B reaches from zero, `fixed_point_angle` (to W, degrees),
        `fixed_point_ratio` (|B| / |W|) and `residual` (|A[B] - c| / |c|). These three are NaN if
        there is none, c is zero, or the rule learns from errors, which the batch does not tell.

    Raises:
        UserError: A rule whose B does not descend an R, or one with a gradient that is not linear
            and symmetric in B; activity that is not finite.
    """
    _require_descent(layer)
    inputs = x if isinstance(x, list) else [x]
    not_finite = UserError(
        f"the gradient of layer {layer.name!r} (rule {layer.rule.name!r}) on this batch is not "
        "finite: give one sample at least, and finite ones."
    )
    if not all(map(len, inputs)):
        raise not_finite
    gradient, size = _gradient(layer, inputs)
    at_zero = gradient(np.zeros(size))
    u, v = np.random.default_rng(0).normal(size=(2, size))

    def operator(b):
        return gradient(b) - at_zero

    image_u, image_v = operator(u), operator(v)
    nonlinear = np.linalg.norm(operator(u + v) - image_u - image_v) * np.linalg.norm(u)
    scale = np.linalg.norm(u) * np.linalg.norm(image_v) + ROUNDING * size * np.abs(at_zero).max()
    if not np.isfinite(scale):
        raise not_finite
    if max(nonlinear, abs(u @ image_v - v @ image_u)) > 1e-6 * scale:
        raise UserError(
            f"dR/dB of layer {layer.name!r} (rule {layer.rule!r}) is not linear and symmetric in "
            "B: its stability is no matter of eigenvalues; leave out what alters the backward "
            "projection, and primitives of degree above 2."
        )
    smallest, largest = extreme_eigenvalues(operator, u, steps)
    if abs(smallest) < ROUNDING * largest:
        smallest = 0.0
    record = {
        "largest_eigenvalue": largest,
        "smallest_eigenvalue": smallest,
        "condition_number": largest / smallest if smallest else float("inf"),
    }
    fixed = _fixed_point(operator, -at_zero, steps)
    if not fixed.any() or "error" in getattr(layer.rule, "coefficients", {}):
        nothing = ("fixed_point_angle", "fixed_point_ratio", "residual")
        return record | dict.fromkeys(nothing, float("nan"))
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype(np.float64).ravel()
    residual = np.linalg.norm(gradient(fixed)) / np.linalg.norm(at_zero)
    return record | {
        "fixed_point_angle": angle(fixed, kernel),
        "fixed_point_ratio": float(np.linalg.norm(fixed) / np.linalg.norm(kernel)),
        "residual": float(residual),
    }


def safe_rates(model: keras.Model, x: Any, optimizer: Any = "sgd", steps: int = 64) -> list[dict]:
    """The learning rates and coefficients at which each layer's B is stable on a batch.

    The model is called once as in training; nothing in it changes.

    Args:
        model: A built Keras model. Layers whose B no optimizer teaches are left out.
        x: The model's inputs, with `n` samples; take as many as a training step has.
        optimizer: SGD, plain or with (Nesterov's) momentum, that teaches B: an instance, a config
            or a name. Of a `PartitionedOptimizer` the part that has the layer's B.
        steps: See `spectrum`.

    Returns:
        A record per layer, in call order: `layer`, `rule`, those of `spectrum`,
        `largest_learning_rate` (B diverges above it; infinite if nothing acts on B) and `headroom`,
        by which factor the coefficients (or R's `rate`) may grow at the optimizer's learning rate.

    Raises:
        UserError: See `spectrum`; an optimizer that is not linear in gradients; no layer that fits.
    """
    optimizer = resolve(optimizer, "optimizer")
    layers = [layer for layer in feedback_layers(model) if layer.rule.learns]
    if not layers:
        raise UserError(f"no layer of the model {model.name!r} has a B that an optimizer teaches.")
    inputs, label = _layer_inputs(model, layers, x), labels(model)
    records = []
    for layer in layers:
        own = optimizer
        if isinstance(optimizer, PartitionedOptimizer):
            own = optimizer.forward if layer.rule.follows_forward else optimizer.feedback
        product = _stable_product(own)
        record = dict(label[id(layer)])
        record |= spectrum(layer, inputs[layer], steps)
        largest = record["largest_eigenvalue"]
        limit = product / largest if largest > 0 else float("inf")
        record["largest_learning_rate"] = 0.0 if record["smallest_eigenvalue"] < 0 else limit
        rate = float(keras.ops.convert_to_numpy(own.learning_rate))
        record["headroom"] = record["largest_learning_rate"] / rate if rate else float("inf")
        records.append(record)
    return records


def _fixed_point(operator: Operator, constant: np.ndarray, steps: int) -> np.ndarray:
    """Returns the solution of A[b] = c in the Krylov space of c; zero if A does not act on c."""
    from scipy.sparse.linalg import LinearOperator, cg  # imports slowly, and is needed here only

    if constant @ operator(constant) <= 0:
        return np.zeros_like(constant)
    shape = (constant.size, constant.size)
    matrix = LinearOperator(shape, matvec=operator, dtype=constant.dtype)
    return cg(matrix, constant, rtol=ROUNDING, maxiter=steps)[0]


def _require_descent(layer: FeedbackLayer) -> None:
    rule = layer.rule
    if not rule.has_feedback_kernel or not rule.learns or rule.renews or rule.scales_errors:
        bound = "; it is stable for every gain below 2" if rule.name == "calibrated_mirror" else ""
        raise UserError(
            f"B of layer {layer.name!r} does not descend an R under rule {rule.name!r}{bound}: "
            "linear stability is that of sums of primitives."
        )


def _gradient(layer: FeedbackLayer, inputs: list) -> tuple[Callable, int]:
    """dR/dB of a layer as a function of a flat B, in float64, and B's size."""

    def wide(x):
        seen = layer.layer_state(tf.cast(x, tf.float64))
        bias = None if seen.bias is None else tf.cast(seen.bias, tf.float64)
        return dataclasses.replace(seen, kernel=tf.cast(seen.kernel, tf.float64), bias=bias)

    states = [wide(x) for x in inputs]
    shape = layer.kernel.shape

    @tf.function(autograph=False)  # grouped products are slow outside of graphs
    def gradient(b):
        with tf.GradientTape() as tape:
            tape.watch(b)
            seen = [dataclasses.replace(state, feedback_kernel=b) for state in states]
            losses = [layer.rule.loss(state) for state in seen]
            total = sum((loss for loss in losses if loss is not None), tf.reduce_sum(0.0 * b))
        return tape.gradient(total, b)

    def flat(b):
        return gradient(tf.constant(b.reshape(shape))).numpy().ravel()

    return flat, int(np.prod(shape))


def _stable_product(optimizer: keras.optimizers.Optimizer) -> float:
    """Learning rate times eigenvalue at which a linear descent turns unstable."""
    other = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm")
    if not isinstance(optimizer, keras.optimizers.SGD) or any(getattr(optimizer, o) for o in other):
        raise UserError(
            f"{optimizer.name!r} is not linear in gradients, or decays weights: give plain SGD or "
            "SGD with momentum; an adaptive optimizer bounds B's steps, and has no such limit."
        )
    m = float(optimizer.momentum)
    return 2 * (1 + m) / (1 + 2 * m) if optimizer.nesterov else 2 * (1 + m)


def _layer_inputs(model: keras.Model, layers: list, x: Any) -> dict:
    """The inputs of all layers in a training call of the model that leaves no trace."""
    seen = {layer: [] for layer in layers}

    def watched(layer, call):
        def record(inputs, *args, **kwargs):
            seen[layer].append(differentiable(layer, inputs))
            return call(inputs, *args, **kwargs)

        return record

    try:
        for layer in layers:  # past `setattr`, which Keras tracks
            vars(layer)["call"] = watched(layer, layer.call)
        model.stateless_call(
            model.trainable_variables, model.non_trainable_variables, x, training=True
        )
    finally:
        for layer in layers:
            vars(layer).pop("call", None)
    return seen
