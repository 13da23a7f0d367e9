"""Products of a training step: the layers' own, and those that a rule adds."""

import keras
import numpy as np
import tensorflow as tf

from tfcredit import layers, rules
from tfcredit.primitives import chains
from tfcredit.rules.calibrated import CalibratedRule
from tfcredit.rules.tracking import TrackingRule


def added(rule: rules.Rule) -> int:
    """Counts the products per layer that a rule adds to op, opT and H.

    Args:
        rule: The rule; amp, null and sparse share one H.

    Returns:
        0, 1 or 2 for the named rules.
    """
    names = set(getattr(rule, "coefficients", ()))
    return bool(names & {"amp", "null", "sparse"}) + ("null" in names) + ("sparse" in names)


def of_layer(layer: keras.Layer, batch: int) -> tuple[float, float] | None:
    """Multiply-adds of a layer's op in a step, and those that its rule adds.

    Args:
        layer: A layer with a kernel.
        batch: Images of a step.

    Returns:
        Both, or `None` where they can't be told.
    """
    if not isinstance(layer, (layers.Conv2D, layers.Dense)):
        return None
    macs = int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    rule = layer.rule
    if isinstance(rule, CalibratedRule):
        shape = list(layer.kernel.shape)
        axes = layer.connection.axes(shape)
        samples = rule.samples(axes.fan_in, axes.columns)
        return batch * macs, 2 * samples * np.prod(shape)
    if isinstance(rule, TrackingRule):  # beside the alignment, in the first step
        return batch * macs, 3 * rule.budget * batch * macs
    teaches = rule.learns or rule.perturbs or rule.renews
    copies = isinstance(rule, rules.SignSymmetry)  # renews B without products
    if not rule.trains_kernel:
        return None
    if isinstance(rule, rules.AlignmentRule) or copies or (rule.sends_error and not teaches):
        if not isinstance(rule, rules.AlignmentRule):
            return batch * macs, 0
        seen = max(1, round(rule.inputs.fraction * batch))
        return batch * macs, seen * added(rule) * macs - _saved(layer, seen)
    return None


def _saved(layer: keras.Layer, batch: int) -> float:
    """Multiply-adds that a cheaper form of R's products saves, where a position is a sample."""
    x, y = (tf.zeros([1, *each.shape[1:]]) for each in (layer.input, layer.output))
    rows = layer.connection.rows(x, y, layer.kernel.shape)
    asked = chains.LONG & set(layer.rule.coefficients)
    if rows is None or not asked:
        return 0
    (count, inputs), (_, outputs) = (each.shape for each in rows)
    counted = chains.costs(asked, batch * count, inputs, outputs)
    return counted["products"] - min(counted.values())
