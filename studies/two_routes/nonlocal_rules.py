"""d. Do non-local rules, and that of Kolen and Pollack, match backprop on deep networks?"""

from collections.abc import Sequence

from studies import BASELINE
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
    diverged,
    gaps,
    interval,
)
from studies.two_routes.scales import Scale
from studies.two_routes.trials import Trial, trial
from tfcredit.records import markdown

COMPARED = (*rules.NON_LOCAL, *rules.SHARED)
MARGIN = 2.0


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """Every depth under backprop and these rules with their defaults."""
    return [
        trial(scale, network, rule, rules.of_paper(rule), seed)
        for seed in range(scale.seeds)
        for network in scale.depths
        for rule in ("backprop", BASELINE, *COMPARED)
    ]


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """The gap on every depth, and whether it is surely below or above a margin."""
    lines, verdicts = [], {}
    for rule in (BASELINE, *COMPARED):
        pooled = [
            gap for name in scale.depths for gap in gaps(rows, scale, rule=rule, network=name)
        ]
        found = interval(pooled)
        if rule in COMPARED:
            verdicts[rule] = HOLDS if found.high < MARGIN else FAILS if found.low > MARGIN else OPEN
        for network in scale.depths:
            mine = {"rule": rule, "network": network}
            top1, gap = accuracies(rows, scale, **mine), interval(gaps(rows, scale, **mine))
            lines.append(
                [network, f"`{rule}`", top1, gap, angles(rows, **mine), diverged(rows, **mine)]
            )
        lines.append(["all", f"`{rule}`", "", found, "", verdicts.get(rule, "-")])
    head = ["network", "rule", "top-1, %", "gap to backprop, points", "mean angle", "diverged"]
    agreed = set(verdicts.values())
    verdict = agreed.pop() if len(agreed) == 1 else OPEN
    text = (
        f"Defaults, {scale.seeds} seeds, paired with backprop of the same network and seed; a "
        "rule matches if the 95 % interval of its gap over all depths is below "
        f"{MARGIN:.0f} points, and does not if it is above. "
        + "; ".join(f"`{rule}`: {word}" for rule, word in verdicts.items())
        + "."
    )
    return Conclusion(verdict, text, markdown(head, lines))


def draw(rows: Sequence[dict], scale: Scale):
    """Accuracy over depth."""
    series = {
        rule: {name: accuracies(rows, scale, rule=rule, network=name) for name in scale.depths}
        for rule in ("backprop", BASELINE, *COMPARED)
    }
    return figures.lines(series, "network", "test top-1, %")


CLAIM = Claim(
    "nonlocal",
    "Non-local rules (symmetric alignment, activation alignment), and Kolen-Pollack's, which is "
    "local under its assumption, match backprop on deep networks.",
    trials,
    conclude,
    draw,
)
