"""i. Does weight mirror work once it is tuned? The steps of the authors' ladder, by TPE."""

import json
from collections.abc import Sequence

import numpy as np
import optuna

from studies import BASELINE
from studies.table import select
from studies.two_routes import figures, rules
from studies.two_routes.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Conclusion,
    Rows,
    accuracies,
    angles,
    differences,
    diverged,
    gaps,
    interval,
)
from studies.two_routes.scales import Flags, Scale
from studies.two_routes.trials import Trial, trial
from tfcredit.errors import UserError
from tfcredit.records import markdown
from tfcredit.search.space import Parameter
from tfcredit.seeding import derive

HELD_OUT = ("--validation_examples=2000",)
"""Training images by which the searches choose."""
SEARCHED, TUNED = "searched", "tuned"
"""Values of the column `part`: trials of a search, and its best values with every seed."""

# The names of the steps are those of the authors' configurations. What their searches ranged over
# is not published: the ranges are those of `sensitivity`, the options ours.
_COEFFICIENTS = {name: Parameter(1e-5, 1e-1, log=True) for name in ("amp", "decay")}
_ADAM = _COEFFICIENTS | {"feedback_learning_rate": Parameter(1e-5, 1e-1, log=True)}
_INFORMATION = _ADAM | {"null": Parameter(1e-5, 1e-1, log=True)}
_OPTIONS = {
    "inputs": Parameter(
        choices=(
            "",
            "noise=normal",
            "center_input=true",
            "noise=normal,center_input=true",
            "normalize_input=true",
        )
    ),
    "alternate_steps": Parameter(choices=(0, 1, 3)),
}
_SGD: Flags = ("--feedback_optimizer=sgd",)
_WITH_ADAM: Flags = ("--feedback_optimizer=adam",)
STEPS: dict[str, tuple[str, Flags, dict[str, Parameter]]] = {
    "wm_tpe": (
        "weight_mirror",
        _SGD,
        _COEFFICIENTS | {"feedback_learning_rate": Parameter(1e-2, 1e2, log=True)},
    ),
    "wm_tpe_ad": ("weight_mirror", _WITH_ADAM, _ADAM),
    "wm_tpe_ad_ops": ("weight_mirror", _WITH_ADAM, _ADAM | _OPTIONS),
    "information_tpe": ("info_alignment", _WITH_ADAM, _INFORMATION),
}
"""Step -> rule, flags that it does not search, and what it searches."""
BEST = {"weight_mirror": "wm_tpe_ad_ops", "info_alignment": "information_tpe"}
"""Rule -> the step whose best values other studies take for tuned."""
NEAR = 5.0


def proposed(step: str, rows: Sequence[dict]) -> dict[str, float | int | str]:
    """The values of the next trial of a step, which depend on its trials so far only."""
    _, _, space = STEPS[step]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for row in rows:
        study.enqueue_trial(json.loads(row["values"]))
        trial = study.ask()
        for name, parameter in space.items():
            parameter.suggest(name, trial)
        study.tell(trial, _held_out(row))
    study.sampler = optuna.samplers.TPESampler(seed=derive(0, step, len(rows)))
    trial = study.ask()
    return {name: parameter.suggest(name, trial) for name, parameter in space.items()}


def flags_of(step: str, values: dict[str, float | int | str]) -> Flags:
    """The flags of a step's rule with these values."""
    rule, fixed, _ = STEPS[step]
    chosen = (
        f"--{name}={value:.3g}" if isinstance(value, float) else f"--{name}={value}"
        for name, value in values.items()
    )
    return (f"--rule={rule}", *fixed, *chosen)


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """What the searches have tried and try next; then the best of each, and rules by hand."""
    rows, found = rows_of("ladder"), []
    if not scale.searched:
        return found
    for seed in range(scale.seeds):
        for rule in ("backprop", BASELINE, *BEST):
            flags = rules.of_paper(rule)
            one = trial(scale, scale.network, rule, flags, seed, step="by hand", part=TUNED)
            found.append(one)
    for step, (rule, _, _) in STEPS.items():
        mine = _searched(rows, step)
        values = [json.loads(row["values"]) for row in mine]
        if len(mine) < scale.searched:
            values.append(proposed(step, mine))
        for number, drawn in enumerate(values):
            factors = {"step": step, "part": SEARCHED, "values": json.dumps(drawn)}
            flags = flags_of(step, drawn)
            found.append(trial(scale, scale.network, rule, flags, number, HELD_OUT, **factors))
        if len(mine) == scale.searched:
            flags = flags_of(step, _best(mine))
            found += [
                trial(scale, scale.network, rule, flags, seed, step=step, part=TUNED)
                for seed in range(scale.seeds)
            ]
    return found


def tuned_flags(rule: str, scale: Scale, rows_of: Rows) -> Flags:
    """The flags of a rule with the best values of its search, without network and seed.

    Raises:
        UserError: The search has not been run to its end at this scale.
    """
    step = BEST[rule]
    mine = _searched(rows_of("ladder"), step)
    if len(mine) < scale.searched:
        raise UserError(
            f"the search {step} has {len(mine)} of {scale.searched} trials at scale {scale.name}: "
            "run the study ladder first."
        )
    return flags_of(step, _best(mine))


def _searched(rows: Sequence[dict], step: str) -> list[dict]:
    mine = select(rows, step=step, part=SEARCHED)
    return sorted(mine, key=lambda row: int(row["seed"]))


def _best(rows: Sequence[dict]) -> dict[str, float | int | str]:
    """The values with the highest accuracy on the images held out, the first of equals."""
    return json.loads(max(rows, key=_held_out)["values"])


def _held_out(row: dict) -> float:
    """Top-1 on the images held out; 0 of a run that diverged."""
    return float(row["validation_top1"] or 0.0)


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """The gap of each step to backprop, with the best values of its search and every seed."""
    base = select(rows, rule="backprop")
    lines, found = [], {}
    for step, rule in _steps():
        mine = select(rows, step=step, rule=rule, part=TUNED)
        found[step, rule] = gap = gaps([*base, *mine], scale, rule=rule)
        searched = [100 * _held_out(row) for row in _searched(rows, step)]
        best = f"{max(searched):.1f} / {np.median(searched):.1f}" if searched else "-"
        top1 = accuracies(mine, scale)
        lines.append([step, f"`{rule}`", best, top1, interval(gap), angles(mine), diverged(mine)])
    head = ["step", "rule", "held-out top-1, best / median", "test top-1, %"]
    head += ["gap to backprop, points", "mean angle", "diverged"]
    last = found[BEST["weight_mirror"], "weight_mirror"]
    mirror = interval(last)
    gains = {
        step: differences(found[step, "weight_mirror"], last)
        for step in ("wm_tpe", "wm_tpe_ad")
        if len(found[step, "weight_mirror"]) == len(last)
    }
    verdict = HOLDS if mirror.high < NEAR else FAILS if mirror.low > NEAR else OPEN
    text = (
        f"{scale.searched} trials of TPE per step on `{scale.network}`, which see {HELD_OUT[0]}; "
        f"each step's best values then train with {scale.seeds} seeds. Backprop reaches "
        f"{accuracies(base, scale)} %. With all options weight mirror stays {mirror} points below "
        "it. "
        + "".join(f"It gains {gain} points over `{step}`. " for step, gain in gains.items())
        + f"Holds if the interval is below {NEAR:.0f} points, fails if it is above."
    )
    return Conclusion(verdict, text, markdown(head, lines))


def draw(rows: Sequence[dict], scale: Scale):
    """Held-out accuracy of every trial."""
    groups = {step: [100 * _held_out(row) for row in _searched(rows, step)] for step in STEPS}
    groups = {step: values for step, values in groups.items() if values}
    return figures.strips(groups, "held-out top-1, %")


def _steps() -> list[tuple[str, str]]:
    """Each step with its rule, by hand first."""
    by_hand = [("by hand", rule) for rule in (BASELINE, *BEST)]
    return [*by_hand, *((step, rule) for step, (rule, _, _) in STEPS.items())]


CLAIM = Claim(
    "ladder",
    "Tuned step by step (values, Adam on B, options of the alignment inputs), weight mirror works "
    "on the network that it is tuned on.",
    trials,
    conclude,
    draw,
)
