"""h. Do the rules differ in robustness to white-box attacks?"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from studies import BASELINE
from studies.table import select
from studies.two_routes import figures, rules
from studies.two_routes.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Conclusion,
    Interval,
    Rows,
    accuracies,
    interval,
)
from studies.two_routes.scales import Scale
from studies.two_routes.trials import Trial, trial
from tfcredit import analysis, models
from tfcredit.data import embedded, preprocessing
from tfcredit.records import markdown
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import parse

EPSILONS = {"1/255": 1 / 255, "4/255": 4 / 255, "8/255": 8 / 255}
"""Largest change of a pixel in [0, 1]."""
MARGIN = 0.1


def trials(scale: Scale, rows_of: Rows) -> list[Trial]:
    """Every rule with its defaults on the network of the scale."""
    return [
        trial(scale, scale.network, rule, rules.of_paper(rule), seed)
        for seed in range(scale.seeds)
        for rule in rules.ALL
    ]


@functools.cache
def _images(flags: pathlib.Path, count: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """Test images in [0, 1], their labels, and how the network wants them normalised."""
    plan = Plan.of(parse(flags.read_text().splitlines())[0])
    source = embedded if plan.recipe.dataset == "embedded" else preprocessing
    batches = plan.images.evaluation(min(count, 500)).take(-(-count // 500)).as_numpy_iterator()
    normalised, labels, _ = (np.concatenate(part) for part in zip(*batches, strict=True))
    raw = np.clip(normalised * np.float32(source.STD) + np.float32(source.MEAN), 0.0, 1.0)
    return raw[:count], labels[:count], {"mean": source.MEAN, "std": source.STD}


def measure(folder: pathlib.Path, scale: Scale, one: Trial) -> dict:
    """Accuracy under FGSM and PGD on the forward network's own input gradient."""
    images, labels, normalisation = _images(folder / "flags.txt", scale.images)
    records = analysis.robust_accuracy(
        models.load(folder / "model.keras"),
        images,
        labels,
        epsilons=list(EPSILONS.values()),
        loss="margin",
        **normalisation,
    )
    names = {value: name for name, value in EPSILONS.items()} | {0.0: "clean"}
    return {
        name if name == "clean" else f"{record['attack']} {name}": record["accuracy"]
        for record in records
        for name in [names[record["epsilon"]]]
    }


def kept(rows: Sequence[dict], rule: str, column: str) -> list[float]:
    """Share in per cent of the images classified rightly that an attack leaves so, by seed."""
    return [
        100 * float(row[column]) / float(row["clean"])
        for row in select(rows, rule=rule)
        if row["finite"] == "True" and float(row["clean"]) > 0
    ]


def conclude(rows: Sequence[dict], scale: Scale) -> Conclusion:
    """Shares that survive, and each rule's paired difference to backprop."""
    column = f"pgd {list(EPSILONS)[1]}"
    found = {
        rule: interval(_differences(rows, rule, column)) for rule in rules.ALL if rule != "backprop"
    }
    lines = [
        [
            f"`{rule}`",
            accuracies(rows, scale, rule=rule),
            *(interval(kept(rows, rule, f"pgd {name}")) for name in EPSILONS),
            interval(kept(rows, rule, f"fgsm {list(EPSILONS)[1]}")),
            found.get(rule, "-"),
        ]
        for rule in rules.ALL
    ]
    head = ["rule", "top-1, %", *(f"kept under PGD {name}, %" for name in EPSILONS)]
    head += [f"kept under FGSM {list(EPSILONS)[1]}, %", f"{column} less backprop's"]
    judged = {rule: one for rule, one in found.items() if rule != BASELINE}
    differ = [rule for rule, one in judged.items() if one.low > 0 or one.high < 0]
    # Nine comparisons at 5 % each: one alone is to be expected in a third of such studies.
    verdict = HOLDS if len(differ) > 1 else OPEN if differ else FAILS
    text = (
        f"`{scale.network}`, defaults, {scale.seeds} seeds, {scale.images} test images; attacks by "
        "the Adversarial Robustness Toolbox on the margin of the logits, with the true gradient of "
        "the forward network, 10 steps of PGD; epsilon is the largest change of a pixel in [0, 1]. "
        "Given is the share of rightly classified images that stay so, since rules differ in clean "
        f"accuracy. Surely different from backprop under {column} (paired by seed): "
        f"{', '.join(f'`{rule}` {found[rule]}' for rule in differ) or 'none'}. Holds if more than "
        "one rule differs: of nine intervals at 95 % one may miss by chance."
    )
    return Conclusion(verdict, text, markdown(head, lines))


def _differences(rows: Sequence[dict], rule: str, column: str) -> list[float]:
    by_seed = {
        name: {row["seed"]: row for row in select(rows, rule=name) if row["finite"] == "True"}
        for name in ("backprop", rule)
    }
    return [
        kept([by_seed[rule][seed]], rule, column)[0]
        - kept([by_seed["backprop"][seed]], "backprop", column)[0]
        for seed in by_seed["backprop"]
        if seed in by_seed[rule]
        and all(float(by_seed[name][seed]["clean"]) > 0 for name in by_seed)
    ]


def draw(rows: Sequence[dict], scale: Scale):
    """Share kept over the size of the attack."""
    series = {
        rule: {"0": Interval(100.0, 100.0, 100.0, scale.seeds)}
        | {name: interval(kept(rows, rule, f"pgd {name}")) for name in EPSILONS}
        for rule in rules.ALL
    }
    words = "rightly classified images that stay so, %"
    return figures.lines(series, "largest change of a pixel (PGD)", words)


CLAIM = Claim(
    "robustness",
    "Rules differ in robustness to white-box attacks.",
    trials,
    conclude,
    draw,
    measure,
)
