"""a. Is weight mirror sensitive to its metaparameters? A random search for each rule."""

import math
from collections.abc import Sequence

import numpy as np

from studies import BASELINE
from studies.table import select
from studies.two_routes import figures, ladder, rules
from studies.two_routes.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Conclusion,
    Rows,
    diverged,
    interval,
)
from studies.two_routes.scales import Flags, Scale
from studies.two_routes.trials import Trial, accuracy, trial
from tfcredit.errors import UserError
from tfcredit.records import markdown

# Log-uniform; each reaches two decades to both sides of the rule's default, or as far as the value
# makes sense. Ours: the ranges of the paper's searches are not published.
SPACES = {
    "weight_mirror": {
        "amp": (1e-5, 1e-1),
        "decay": (2e-5, 2e-1),
        "feedback_learning_rate": (1e-5, 1e-1),
    },
    "info_alignment": {
        "amp": (2e-5, 2e-1),
        "null": (2e-5, 2e-1),
        "decay": (2e-5, 2e-1),
        "feedback_learning_rate": (5e-5, 5e-1),
    },
    "activation_alignment": {
        "amp": (2e-5, 2e-1),
        "sparse": (2e-5, 2e-1),
        "feedback_learning_rate": (1e-5, 1e-1),
    },
    "symmetric_alignment": {"self": (1e-3, 1.0), "decay": (1e-3, 1.0)},
    "calibrated_mirror": {"angle": (0.5, 45.0), "gain": (1e-3, 1.0)},
}
NEAR = 5.0


def draw_flags(rule: str, number: int) -> Flags:
    """The flags of a rule's random trial; the draws of a number are always the same."""
    generator = np.random.default_rng([number, list(SPACES).index(rule)])
    values = {
        name: f"{math.exp(generator.uniform(math.log(low), math.log(high))):.3g}"
        for name, (low, high) in SPACES[rule].items()
    }
    if rule == "calibrated_mirror":
        arguments = ",".join(f"{name}={value}" for name, value in values.items())
        return (f"--rule={rule}({arguments})",)
    drawn = (f"--{name}={value}" for name, value in values.items())
    return (f"--rule={rule}", *rules.optimizer_of_paper(rule), *drawn)


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """The baselines with each seed, and the random trials, each with a seed of its own."""
    found = [
        trial(scale, scale.network, rule, rules.default(rule), seed, number="")
        for rule in ("backprop", BASELINE)
        for seed in range(scale.seeds)
    ]
    for rule in SPACES:
        found += [
            trial(scale, scale.network, rule, draw_flags(rule, number), number, number=number)
            for number in range(scale.trials)
        ]
    return found


def tuned_flags(rule: str, scale: Scale, rows_of: Rows) -> Flags:
    """The flags of the rule's best trial, without network and seed: by TPE where the scale has it.

    Raises:
        UserError: The search has not been run to its end at this scale.
    """
    if scale.searched:
        return ladder.tuned_flags(rule, scale, rows_of)
    mine = select(rows_of(CLAIM.name), rule=rule)
    if len(mine) < scale.trials:
        raise UserError(
            f"the search of {rule} has {len(mine)} of {scale.trials} trials at scale {scale.name}: "
            f"run the study {CLAIM.name} first."
        )
    best = max(mine, key=lambda row: accuracy(row, scale))
    return draw_flags(rule, int(best["number"]))


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """Mirror against information: how many random draws come near backprop, and the spread."""
    backprop = interval([accuracy(row, scale) for row in select(rows, rule="backprop")])
    found = {rule: _values(rows, rule, scale) for rule in (BASELINE, *SPACES)}
    table = markdown(
        [
            "rule",
            "best",
            "median",
            "quartiles",
            f"within {NEAR:.0f} points of backprop",
            "diverged",
        ],
        [
            [
                f"`{rule}`",
                f"{max(values):.1f}",
                f"{np.median(values):.1f}",
                "{:.1f} to {:.1f}".format(*np.percentile(values, [25, 75])),
                f"{sum(value > backprop.mean - NEAR for value in values)} of {len(values)}",
                diverged(rows, rule=rule),
            ]
            for rule, values in found.items()
        ],
    )
    mirror = found["weight_mirror"]
    works = max(mirror) > backprop.mean - NEAR
    near = np.mean(np.asarray(mirror) > backprop.mean - NEAR)
    others = [
        np.mean(np.asarray(found[r]) > backprop.mean - NEAR) for r in SPACES if r != "weight_mirror"
    ]
    verdict = HOLDS if works and near < min(others) else FAILS if works else OPEN
    text = (
        f"{scale.trials} random draws per rule on `{scale.network}`, each with a seed of its own; "
        f"backprop reaches {backprop} % (n = {backprop.n}). Weight mirror's best draw reaches "
        f"{max(mirror):.1f} %, {near:.0%} of its draws come within {NEAR:.0f} points of backprop "
        f"(the other rules: {min(others):.0%} to {max(others):.0%}). Holds if some draw works and "
        "fewer do than under every other rule."
    )
    return Conclusion(verdict, text, table)


def draw(rows: Sequence[dict], scale: Scale):
    """Every draw of every rule."""
    groups = {"backprop": [accuracy(row, scale) for row in select(rows, rule="backprop")]}
    groups |= {rule: _values(rows, rule, scale) for rule in (BASELINE, *SPACES)}
    return figures.strips(groups, "test top-1, %")


def _values(rows: Sequence[dict], rule: str, scale: Scale) -> list[float]:
    return [accuracy(row, scale) for row in select(rows, rule=rule)]


CLAIM = Claim(
    "sensitivity",
    "Weight mirror works, but is sensitive to its metaparameters.",
    trials,
    conclude,
    draw,
)
