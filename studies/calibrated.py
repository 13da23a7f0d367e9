"""Do the calibrated rules keep their promise? Angles asked for and reached, and accuracy.

Trains four networks of the embedded set for 500 steps under plain `compile("adam")`, prints a
Markdown table and writes one CSV row per run. The angles are measured at a small learning rate,
1e-5, where W moves little in the 1/gain steps by which B lags; the accuracies at Adam's 1e-3:

    python -m studies calibrated

For `calibrated_mirror` with 3, 5, 10 and 20 degrees the table gives the ratio of the angle reached
to the angle asked for, in the least and the largest layer; for the other rules the mean angle.
"""

import argparse
from collections.abc import Iterator

from studies import BASELINE, runs
from studies.study import Rows, Study
from studies.table import Place
from tfcredit import analysis, rules
from tfcredit.records import markdown

NETWORKS = {
    "fc": ("fc", {}),
    "conv": ("conv", {}),
    "resnet8": ("resnet8", {}),
    "resnet20": ("resnet20", {"width": 8}),
}
MIRRORS = [rules.CalibratedMirror(angle=angle) for angle in (3.0, 5.0, 10.0, 20.0)]
OTHERS = [rules.CalibratedActivation(), rules.InformationAlignment(), rules.WeightMirror()]
OTHERS += [rules.get(BASELINE)]
RUNS = [(rule, 1e-5) for rule in (*MIRRORS, rules.CalibratedActivation())]
RUNS += [(rule, 1e-3) for rule in (rules.CalibratedMirror(), *OTHERS)]
RULES = {repr(rule): rule for rule, _ in RUNS}
FIELDS = ["network", "rule", "seed", "steps", "learning_rate", "top1", "loss", "mean_angle"]
FIELDS += ["least_ratio", "largest_ratio", "finite", "seconds"]


def run(network: str, rule: rules.Rule, seed: int, steps: int, learning_rate: float):
    """One run; returns the network, and how the run ended."""
    name, options = NETWORKS[network]
    model = runs.make(name, options, rule, seed, learning_rate)
    return model, runs.train(model, seed, steps)


def reached(model, angle: float) -> list[tuple]:
    """Each layer, and the angle that it reached over the one asked for."""
    pairs = zip(analysis.feedback_layers(model), analysis.alignment(model), strict=True)
    return [(layer, each["angle"] / angle) for layer, each in pairs]


def train(network: str, rule: rules.Rule, seed: int, steps: int, learning_rate: float) -> dict:
    """One run; returns its row."""
    model, results = run(network, rule, seed, steps, learning_rate)
    mirror = isinstance(rule, rules.CalibratedMirror)
    ratios = [ratio for _, ratio in reached(model, rule.angle)] if mirror else []
    return results | {
        "network": network,
        "rule": repr(rule),
        "seed": seed,
        "steps": steps,
        "learning_rate": learning_rate,
        "least_ratio": min(ratios, default=""),
        "largest_ratio": max(ratios, default=""),
    }


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network under every rule."""
    for network in flags.networks:
        for rule, learning_rate in RUNS:
            case = {"network": network, "rule": repr(rule), "seed": flags.seed}
            yield case | {"steps": flags.steps, "learning_rate": learning_rate}


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [train(**case | {"rule": RULES[case["rule"]]})]


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    head = ["network", "rule", "Adam", "top-1", "mean angle", "reached / asked", "finite"]
    lines = []
    for row in rows:
        ratio = ""
        if row["least_ratio"]:
            ratio = f"{float(row['least_ratio']):.2f} to {float(row['largest_ratio']):.2f}"
        line = [row["network"], f"`{row['rule']}`", row["learning_rate"]]
        angle = f"{float(row['mean_angle']):.1f}" if row["mean_angle"] else "-"
        line += [f"{float(row['top1']):.3f}", angle]
        lines.append([*line, ratio, row["finite"]])
    return markdown(head, lines)


STUDY = Study(
    "calibrated",
    __doc__,
    [(table, Place("calibrated", "docs/results.md"))],
    FIELDS,
    cases,
    measure,
    flags={
        "networks": {"nargs": "+", "default": list(NETWORKS), "choices": NETWORKS},
        "steps": {"type": int, "default": 500},
        "seed": {"type": int, "default": 0},
    },
)
