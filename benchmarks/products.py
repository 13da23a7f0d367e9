"""Products of a training step: the layers' own, and those that a rule adds."""

import keras
import numpy as np

from tfcredit import layers, rules
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
    if isinstance(rule, rules.AlignmentRule) or copies or (rule.sends_error and not teaches):
        seen = rule.inputs.fraction if isinstance(rule, rules.AlignmentRule) else 1.0
        return batch * macs, seen * batch * added(rule) * macs
    return None
