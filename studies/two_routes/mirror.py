"""f. Why does the mirror fail? Four factors crossed: which carries instability, which the angle."""

import itertools
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from studies.table import select
from studies.two_routes import figures, rules
from studies.two_routes.claim import (
    HOLDS,
    OPEN,
    Claim,
    Conclusion,
    Interval,
    Rows,
    diverged,
    interval,
)
from studies.two_routes.factor_mirror import DECAY
from studies.two_routes.scales import Flags, Scale
from studies.two_routes.trials import Trial, accuracy, trial
from tfcredit import analysis, models
from tfcredit.records import markdown

FACTORS = ("noise", "calibrated", "centred", "adaptive")
RESPONSES = {
    "top-1, points": "top1",
    "mean angle, degrees": "mean_angle",
    "norm ratio from 1, decades": "log_ratio",
}


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
    """Distance of |B| / |W| from 1 in decades, mean over the layers."""
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


CLAIM = Claim(
    "mirror",
    "The mirror fails for causes that can be told apart: one factor carries the misalignment, one "
    "the instability.",
    trials,
    conclude,
    draw,
    measure,
)
