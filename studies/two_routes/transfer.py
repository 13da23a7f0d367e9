"""b. Do tuned values carry over to other networks? Tuned on one, applied to four."""

from collections.abc import Sequence

from studies import BASELINE
from studies.two_routes import figures, rules, sensitivity
from studies.two_routes.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Conclusion,
    Rows,
    accuracies,
    differences,
    diverged,
    gaps,
    interval,
)
from studies.two_routes.scales import Scale
from studies.two_routes.trials import Trial, trial
from tfcredit.records import markdown

TUNED = rules.LOCAL
COMPARED = (*TUNED, "calibrated_mirror")
FAR = 5.0


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """Source and targets under backprop, the tuned rules, and one that is used as it is."""
    found = []
    for rule in ("backprop", BASELINE, *COMPARED):
        tuned = rule in TUNED
        flags = sensitivity.tuned_flags(rule, scale, rows_of) if tuned else rules.of_paper(rule)
        for network in (scale.network, *scale.targets):
            found += [trial(scale, network, rule, flags, seed) for seed in range(scale.seeds)]
    return found


def losses(rows: Sequence[dict], rule: str, scale: Scale) -> list[float]:
    """By how much the gap to backprop is larger on each target and seed than on the source."""
    source = gaps(rows, scale, rule=rule, network=scale.network)
    targets = [gaps(rows, scale, rule=rule, network=network) for network in scale.targets]
    return [
        there - here
        for target in targets
        if target  # it has been run
        for there, here in zip(target, source, strict=True)
    ]


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """The gap on the source against the gap on the targets."""
    networks = (scale.network, *scale.targets)
    table = markdown(
        ["rule", *(f"gap on {network}" for network in networks), "added on targets", "diverged"],
        [
            [
                f"`{rule}`",
                *(interval(gaps(rows, scale, rule=rule, network=name)) for name in networks),
                interval(losses(rows, rule, scale)),
                diverged(rows, rule=rule),
            ]
            for rule in (BASELINE, *COMPARED)
        ],
    )
    mirror = interval(losses(rows, "weight_mirror", scale))
    information = interval(losses(rows, "info_alignment", scale))
    paired = differences(
        losses(rows, "weight_mirror", scale), losses(rows, "info_alignment", scale)
    )
    base = accuracies(rows, scale, rule="backprop", network=scale.network)
    if mirror.low > 0 and paired.low > 0:
        verdict = HOLDS
    elif mirror.high < FAR or paired.high < 0:
        verdict = FAILS
    else:
        verdict = OPEN
    text = (
        f"The best of {scale.trials} random draws on `{scale.network}` (study sensitivity), "
        f"applied to {len(scale.targets)} other networks, {scale.seeds} seeds each; gaps are "
        "points of top-1 below backprop of the same network and seed. Away from its source weight "
        f"mirror loses {mirror} points more than there, information alignment {information}; "
        f"paired, the mirror loses {paired} points more than information alignment "
        f"(n = {paired.n}). `calibrated_mirror` has its defaults everywhere. Holds if the mirror's "
        "loss and the paired difference are above 0; fails if the loss is surely below "
        f"{FAR:.0f} points or the difference below 0. Backprop on the source: {base} %."
    )
    return Conclusion(verdict, text, table)


def draw(rows: Sequence[dict], scale: Scale):
    """Gap to backprop on the source and each target."""
    networks = (scale.network, *scale.targets)
    series = {
        rule: {
            network: interval(gaps(rows, scale, rule=rule, network=network)) for network in networks
        }
        for rule in (BASELINE, *COMPARED)
    }
    return figures.bars(series, "points of top-1 below backprop")


CLAIM = Claim(
    "transfer",
    "The mirror's tuned values do not transfer across architectures; information alignment's "
    "transfer better.",
    trials,
    conclude,
    draw,
)
