"""e. Which rules stay effective under noisy updates?"""

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
    differences,
    diverged,
    gaps,
)
from studies.two_routes.scales import Flags, Scale
from studies.two_routes.trials import Trial, trial
from tfcredit.records import markdown

JUDGED = (*rules.NON_LOCAL, *rules.SHARED, *rules.LOCAL, *rules.CALIBRATED)
COMPARED = ("backprop", BASELINE, *JUDGED)
MARGIN = 5.0


def flags_of(rule: str, scale: Scale) -> Flags:
    """Defaults; symmetric alignment at the learning rate of W, which multiplies the noise."""
    if rule != "symmetric_alignment":
        return rules.of_paper(rule)
    coefficient = 0.1 / scale.rate
    rates = (f"--feedback_learning_rate={scale.rate}", "--feedback_optimizer=sgd")
    return (f"--rule={rule}", f"--self={coefficient}", f"--decay={coefficient}", *rates)


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """Every rule at every variance of the noise."""
    return [
        trial(
            scale,
            scale.network,
            rule,
            flags_of(rule, scale),
            seed,
            _noise(variance),
            variance=variance,
        )
        for seed in range(scale.seeds)
        for variance in (0.0, *scale.variances)
        for rule in COMPARED
    ]


def _noise(variance: float) -> Flags:
    return ("--noise=normal", f"--noise_variance={variance}") if variance else ()


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """By how much the gap to backprop under the same noise grows from none to the most."""
    most = scale.variances[-1]
    lines, growth = [], {}
    for rule in COMPARED:
        cells = [
            accuracies(rows, scale, rule=rule, variance=variance)
            for variance in (0.0, *scale.variances)
        ]
        growth[rule] = differences(
            gaps(rows, scale, rule=rule, variance=most), gaps(rows, scale, rule=rule, variance=0.0)
        )
        lines.append([f"`{rule}`", *cells, growth[rule], diverged(rows, rule=rule)])
    head = ["rule", *(f"variance {variance}" for variance in (0.0, *scale.variances))]
    head += ["gap to backprop grows by", "diverged"]
    words = {
        rule: FAILS if growth[rule].low > MARGIN else HOLDS if growth[rule].high < MARGIN else OPEN
        for rule in JUDGED
    }
    stay = [words[rule] for rule in ("symmetric_alignment", "activation_alignment")]
    verdict = stay[0] if len(set(stay)) == 1 else OPEN
    worst = max((*rules.NON_LOCAL, *rules.SHARED), key=lambda rule: growth[rule].mean)
    text = (
        "Normal noise times the learning rate on every weight after every step, "
        f"`{scale.network}`, {scale.seeds} seeds. A rule stays effective if, from no noise to "
        f"variance {most}, its gap to backprop under the same noise surely grows by less than "
        f"{MARGIN:.0f} points. "
        + "; ".join(f"`{rule}` {growth[rule]}: {word}" for rule, word in words.items())
        + f". Of the rules that read W or share its update `{worst}` suffers most. The verdict is "
        "on symmetric and activation alignment. The noise on B has the rate of B's own optimizer; "
        "the calibrated rules keep B outside of the optimizer, so that only W is noisy."
    )
    return Conclusion(verdict, text, markdown(head, lines))


def draw(rows: Sequence[dict], scale: Scale):
    """Accuracy over the noise's variance."""
    series = {
        rule: {
            str(variance): accuracies(rows, scale, rule=rule, variance=variance)
            for variance in (0.0, *scale.variances)
        }
        for rule in COMPARED
    }
    return figures.lines(series, "variance of the noise", "test top-1, %")


CLAIM = Claim(
    "noise",
    "Symmetric and activation alignment stay effective under noisy updates.",
    trials,
    conclude,
    draw,
)
