"""c. Does the local rule's gap to backprop widen with depth?"""

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
    angles,
    differences,
    diverged,
    gaps,
    interval,
)
from studies.two_routes.scales import Scale
from studies.two_routes.trials import Trial, trial
from tfcredit.records import markdown

LOCAL = ("info_alignment", "weight_mirror")
COMPARED = ("backprop", BASELINE, *LOCAL)


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """Every depth under backprop and the local rules with the values tuned on one network."""
    found = []
    for rule in COMPARED:
        tuned = rule in LOCAL
        flags = sensitivity.tuned_flags(rule, scale, rows_of) if tuned else rules.of_paper(rule)
        for network in scale.depths:
            found += [trial(scale, network, rule, flags, seed) for seed in range(scale.seeds)]
    return found


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """The gap on the deepest network against that on the shallowest."""
    first, last = list(scale.depths)[0], list(scale.depths)[-1]
    lines = []
    for network in scale.depths:
        for rule in COMPARED:
            mine = {"rule": rule, "network": network}
            gap = "-" if rule == "backprop" else interval(gaps(rows, scale, **mine))
            top1 = accuracies(rows, scale, **mine)
            lines.append(
                [network, f"`{rule}`", top1, gap, angles(rows, **mine), diverged(rows, **mine)]
            )
    head = ["network", "rule", "top-1, %", "gap to backprop, points", "mean angle", "diverged"]
    growth = {
        rule: differences(
            gaps(rows, scale, rule=rule, network=last), gaps(rows, scale, rule=rule, network=first)
        )
        for rule in LOCAL
    }
    found = growth["info_alignment"]
    verdict = HOLDS if found.low > 0 else FAILS if found.high < 0 else OPEN
    text = (
        f"Values tuned on `{scale.network}` (study sensitivity), {scale.seeds} seeds. From "
        f"{first} to {last} the gap of information alignment to backprop grows by {found} points, "
        f"that of weight mirror by {growth['weight_mirror']} (paired by seed). Holds if the first "
        "interval is above 0, fails if it is below."
    )
    return Conclusion(verdict, text, markdown(head, lines))


def draw(rows: Sequence[dict], scale: Scale):
    """Accuracy over depth."""
    series = {
        rule: {name: accuracies(rows, scale, rule=rule, network=name) for name in scale.depths}
        for rule in COMPARED
    }
    return figures.lines(series, "network", "test top-1, %")


CLAIM = Claim(
    "depth", "The gap of the local rules to backprop widens with depth.", trials, conclude, draw
)
