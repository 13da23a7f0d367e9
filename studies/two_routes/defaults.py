"""g. Beyond the paper: tracking and calibrated rules with their defaults, against all others."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np

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
    diverged,
    gaps,
    interval,
)
from studies.two_routes.scales import Scale
from studies.two_routes.trials import Trial, trial
from tfcredit import analysis, models
from tfcredit.records import markdown

COMPARED = tuple(rule for rule in rules.ALL if rule != "backprop")
JUDGED = "tracking_mirror"
MARGIN = 2.0


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """Every rule with its defaults on every network, and under noisy updates."""
    networks = [*scale.depths, *scale.widths, *scale.without_batch_norm]
    noisy = ("--noise=normal", f"--noise_variance={scale.variances[0]}")
    found = []
    for seed in range(scale.seeds):
        for rule in rules.ALL:
            flags = rules.default(rule)
            found += [trial(scale, name, rule, flags, seed, noise="none") for name in networks]
            found.append(trial(scale, scale.network, rule, flags, seed, noisy, noise="normal"))
    return found


def expected_angle(layer) -> float:
    """The angle that `calibrated_mirror` settles at with the layer's number of samples, degrees."""
    axes = layer.connection.axes(layer.kernel.shape)
    averaging = layer.rule.gain / (2.0 - layer.rule.gain)
    squared = averaging * (axes.fan_in - 1) / layer.rule.samples(axes.fan_in, axes.columns)
    return math.degrees(math.atan(math.sqrt(squared)))


def measure(folder: pathlib.Path, scale: Scale, one: Trial) -> dict:
    """Angle by the formula and angle reached, over the layers of `calibrated_mirror`."""
    if one.factors["rule"] != "calibrated_mirror":
        return {}
    model = models.load(folder / "model.keras")
    expected = [expected_angle(layer) for layer in analysis.feedback_layers(model)]
    return {"expected_angle": float(np.mean(expected))}


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """The gap to backprop of each rule over all settings; angle against formula."""
    lines, pooled = [], {}
    settings = _settings(scale)
    for rule in COMPARED:
        pooled[rule] = [
            gap for one in settings.values() for gap in gaps(rows, scale, rule=rule, **one)
        ]
        cells = [interval(gaps(rows, scale, rule=rule, **one)) for one in settings.values()]
        found = interval(pooled[rule])
        lines.append(
            [f"`{rule}`", *cells, found, angles(rows, rule=rule), diverged(rows, rule=rule)]
        )
    base = [accuracies(rows, scale, rule="backprop", **one) for one in settings.values()]
    lines.insert(0, ["`backprop`, top-1", *base, "", "", diverged(rows, rule="backprop")])
    head = ["gap, points", *settings, "all", "mean angle", "diverged"]
    words = {}
    for rule in (JUDGED, *rules.CALIBRATED):
        found = interval(pooled[rule])
        words[rule] = HOLDS if found.high < MARGIN else FAILS if found.low > MARGIN else OPEN
    mine = [row for row in select(rows, rule="calibrated_mirror") if row.get("expected_angle")]
    reached = interval([float(row["mean_angle"]) / float(row["expected_angle"]) for row in mine])
    text = (
        f"Defaults only, {scale.seeds} seeds, paired with backprop of the same setting and seed. A "
        f"rule matches backprop if the interval of its gap over all settings is below "
        f"{MARGIN:.0f} points; the verdict is that of the tracking rule. "
        + "; ".join(f"`{rule}` {interval(pooled[rule])}: {word}" for rule, word in words.items())
        + ". Angle of `calibrated_mirror` over that of its formula (with each layer's own number "
        "of samples; it leaves out the lag behind W and the early average): "
        f"{reached.mean:.2f} [{reached.low:.2f}, {reached.high:.2f}]."
    )
    return Conclusion(words[JUDGED], text, markdown(head, lines))


def _settings(scale: Scale) -> dict[str, dict]:
    networks = [*scale.depths, *scale.widths, *scale.without_batch_norm]
    settings = {name: {"network": name, "noise": "none"} for name in networks}
    return settings | {"noisy updates": {"network": scale.network, "noise": "normal"}}


def draw(rows: Sequence[dict], scale: Scale):
    """Accuracy in every setting."""
    series = {
        rule: {
            name: accuracies(rows, scale, rule=rule, **one)
            for name, one in _settings(scale).items()
        }
        for rule in rules.ALL
    }
    return figures.lines(series, "setting", "test top-1, %")


CLAIM = Claim(
    "defaults",
    "Beyond the paper: with its defaults alone a local rule that tracks W matches backprop "
    "whatever the depth, width, normalisation and noise of the updates.",
    trials,
    conclude,
    draw,
    measure,
)
