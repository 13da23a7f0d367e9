"""f. Why does the mirror fail? Four factors crossed: which carries instability, which the angle."""

import itertools
import math
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from studies.two_routes import figures, rules
from studies.two_routes.runs import Trial, accuracy, select, trial
from studies.two_routes.scales import Flags, Scale
from studies.two_routes.study import (
    HOLDS,
    OPEN,
    Conclusion,
    Interval,
    Rows,
    Study,
    diverged,
    interval,
    markdown,
)
from tfcredit import analysis, models
from tfcredit.rules import Rule, register
from tfcredit.rules.geometry import geometry

AMP, DECAY = 1e-3, 2e-3  # the defaults of weight_mirror
FACTORS = ("noise", "calibrated", "centred", "adaptive")
RESPONSES = {
    "top-1, points": "top1",
    "mean angle, degrees": "mean_angle",
    "norm ratio from 1, decades": "log_ratio",
}


class FactorMirror(Rule):
    """Weight mirror, amp + decay, with three of its choices open.

    Known by name once `register_rule` was called.

    Args:
        noise: Whether R sees unit noise in place of the layer's input.
        calibrated: Whether B forgets towards an unbiased estimate of W for white inputs,
            H(x, y) / (count * mean square of x), as the calibrated rules do; otherwise amp and
            decay have the defaults of `weight_mirror`.
        centred: Whether the batch mean is subtracted from x.
    """

    feedback_optimizer = ("adam", 1e-3)
    counts_steps = True

    def __init__(self, noise: bool = False, calibrated: bool = False, centred: bool = False):
        self.noise, self.calibrated, self.centred = noise, calibrated, centred

    def gradient(self, synapse, dy):
        """See `Rule.gradient`."""
        connection, b = synapse.connection, synapse.feedback_kernel
        x = tf.cast(synapse.x, b.dtype)
        if self.noise:
            x = tf.ensure_shape(synapse.noise(tf.shape(x), x.dtype), synapse.x.shape)
        if self.centred:
            x = x - tf.reduce_mean(x, 0, keepdims=True)
        product = connection.hebbian(x, connection.op(x, synapse.kernel), b.shape)
        examples = tf.cast(tf.shape(x)[0], b.dtype)
        if not self.calibrated:
            return DECAY * b - AMP * product / examples
        counts = geometry(connection, synapse.x.shape[1:], synapse.kernel.shape.as_list()).counts
        power = tf.reduce_mean(tf.square(x))
        return DECAY * (b - product / (examples * tf.constant(counts, b.dtype) * power))

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {name: getattr(self, name) for name in ("noise", "calibrated", "centred")}


def register_rule() -> None:
    """Make the rule known as `factor_mirror`, as its runs need; not by importing this module."""
    register("factor_mirror")(FactorMirror)


def flags_of(noise: bool, calibrated: bool, centred: bool, adaptive: bool) -> Flags:
    """The rule and B's optimizer; plain SGD has the rate that makes B forget in 100 steps."""
    arguments = f"noise={noise},calibrated={calibrated},centred={centred}"
    optimizer = ("adam", 1e-3) if adaptive else ("sgd", 0.01 / DECAY)
    return (
        f"--rule=factor_mirror({arguments})",
        f"--feedback_optimizer={optimizer[0]}",
        f"--feedback_learning_rate={optimizer[1]:g}",
    )


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """All combinations of the factors."""
    found = [
        trial(scale, scale.network, "backprop", rules.default("backprop"), seed)
        for seed in range(scale.seeds)
    ]
    for values in itertools.product((False, True), repeat=len(FACTORS)):
        factors = dict(zip(FACTORS, values, strict=True))
        found += [
            trial(scale, scale.network, "factor_mirror", flags_of(**factors), seed, **factors)
            for seed in range(scale.seeds)
        ]
    return found


def measure(folder: pathlib.Path, scale: Scale, one: Trial) -> dict:
    """How far |B| / |W| is from 1, in decades, mean over the layers."""
    if one.factors["rule"] == "backprop":
        return {}
    records = analysis.alignment(models.load(folder / "model.keras"))
    return {"log_ratio": float(np.mean([abs(math.log10(r["norm_ratio"])) for r in records]))}


def effect(rows: Sequence[dict], scale: Scale, factor: str, column: str) -> Interval:
    """Mean change of a response as a factor is switched on, paired over all else.

    Runs that diverged have chance as accuracy; pairs in which one diverged tell nothing of angle
    and norm, which it does not have.
    """
    others = [name for name in (*FACTORS, "seed") if name != factor]
    changes = []
    for off in select(rows, rule="factor_mirror", **{factor: False}):
        same = {name: off[name] for name in others}
        for on in select(rows, rule="factor_mirror", **{factor: True}, **same):
            if column == "top1":
                changes.append(accuracy(on, scale) - accuracy(off, scale))
            elif on.get(column) and off.get(column):
                changes.append(float(on[column]) - float(off[column]))
    return interval(changes)


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """Main effects on accuracy, angle, norm and divergence."""
    lines = []
    for factor in FACTORS:
        cells = [effect(rows, scale, factor, column) for column in RESPONSES.values()]
        unstable = [diverged(rows, rule="factor_mirror", **{factor: on}) for on in (False, True)]
        lines.append([factor, *(_precise(cell) for cell in cells), " / ".join(unstable)])
    head = ["switching on", *RESPONSES, "diverged without / with"]
    angle = {factor: effect(rows, scale, factor, "mean_angle") for factor in FACTORS}
    norm = {factor: effect(rows, scale, factor, "log_ratio") for factor in FACTORS}
    misalignment = min(FACTORS, key=lambda factor: angle[factor].mean)
    instability = min(FACTORS, key=lambda factor: norm[factor].mean)
    clear = angle[misalignment].high < 0 and norm[instability].high < 0
    text = (
        f"All 16 combinations on `{scale.network}`, {scale.seeds} seeds; effects are paired over "
        f"all other factors. Misalignment: `{misalignment}` lowers the mean angle most, by "
        f"{_precise(angle[misalignment])} degrees. Instability: `{instability}` lowers the "
        f"distance of |B|/|W| from 1 most, by {_precise(norm[instability])} decades. Holds if both "
        "are surely below 0."
    )
    return Conclusion(HOLDS if clear else OPEN, text, markdown(head, lines))


def draw(rows: Sequence[dict], scale: Scale):
    """Main effects on accuracy and angle."""
    groups = {
        words: {factor: effect(rows, scale, factor, column) for factor in FACTORS}
        for words, column in list(RESPONSES.items())[:2]
    }
    return figures.bars(groups, "change as the factor is switched on")


def _precise(found: Interval) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


STUDY = Study(
    "mirror",
    "The mirror fails for causes that can be told apart: one factor carries the misalignment, one "
    "the instability.",
    trials,
    conclude,
    draw,
    measure,
)
