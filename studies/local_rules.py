"""Local rules without tuning: five networks, three seeds, one set of values for all.

    python -m studies local_rules

Trains every network under every rule's defaults by plain `compile` and `fit`: one Adam for all
variables, rate 1e-3 with cosine decay, batch 128, no augmentation. Step times are measured apart:
all rules of a network in turn in one process, 5 rounds, each rule's median ratio to backprop of the
same round. Runs that the output file holds are not repeated.
"""

import argparse
from collections.abc import Iterator, Sequence

import keras

from benchmarks.timing import median_ratios
from studies import BASELINE, runs
from studies.study import Rows, Study, grid
from studies.table import Place, diverged, select, spread
from tfcredit import rules
from tfcredit.records import markdown

NETWORKS = {
    "fc": ("fc", {}),
    "fc_tanh": ("fc", {"depth": 6, "activation": "tanh"}),
    "conv": ("conv", {}),
    "resnet8": ("resnet8", {"width": 8}),
    "resnet20": ("resnet20", {"width": 8}),
}
RULES = ["backprop", BASELINE, "symmetric_alignment", "calibrated_mirror", "phase_free_mirror"]
RULES += ["info_alignment", "weight_mirror"]
FIELDS = ["network", "rule", "seed", "steps", "top1", "loss", "mean_angle", "finite", "seconds"]
FIELDS += ["step_ratio"]


def train(network: str, rule: str, seed: int, steps: int) -> dict:
    """One run; returns its row."""
    name, options = NETWORKS[network]
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model = runs.make(name, options, rule, seed, rate)
    row = {"network": network, "rule": rule, "seed": seed, "steps": steps}
    return row | runs.train(model, seed, steps)


def ratios(network: str, names: Sequence[str]) -> dict[str, float]:
    """The step times of these rules over backprop's."""
    name, options = NETWORKS[network]
    calls = {}
    for rule in ("backprop", *names):
        model = runs.make(name, options, rule, 0, 1e-3)
        calls[rule] = runs.timed_steps(model)
    result = median_ratios(calls, "backprop", rounds=5)
    keras.backend.clear_session()
    return result


def asked(rule: str) -> str:
    """The angle that the rule was asked for, where it takes one."""
    angle = getattr(rules.get(rule), "angle", None)
    return "-" if angle is None else f"{angle:.0f}"


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network under every rule, seed by seed."""
    seeds = range(flags.seeds)
    return grid(seed=seeds, network=flags.networks, rule=RULES, steps=[flags.steps])


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [train(**case)]


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Measures the step times that are missing."""
    for network in flags.networks:
        mine = [row for row in select(rows, network=network) if not row.get("step_ratio")]
        if mine:
            measured = ratios(network, list(dict.fromkeys(row["rule"] for row in mine)))
            for row in mine:
                row["step_ratio"] = f"{measured[row['rule']]:.2f}"


def table(rows: Rows) -> str:
    """Mean and half range over the seeds, as Markdown."""
    head = ["network", "rule", "top-1, %", "angle asked", "mean angle reached", "diverged", "step"]
    lines = []
    for network in NETWORKS:
        for rule in RULES:
            mine = select(rows, network=network, rule=rule)
            if not mine:
                continue
            top1 = spread([100 * float(row["top1"]) for row in mine])
            angles = spread([float(row["mean_angle"]) for row in mine if row["mean_angle"]])
            line = [f"`{network}`", f"`{rule}`", top1, asked(rule), angles, diverged(mine)]
            lines.append([*line, mine[0].get("step_ratio") or "-"])
    return markdown(head, lines)


STUDY = Study(
    "local_rules",
    __doc__,
    [(table, Place("local_rules", "docs/results.md"))],
    FIELDS,
    cases,
    measure,
    finish,
    flags={
        "networks": {"nargs": "+", "default": list(NETWORKS), "choices": NETWORKS},
        "steps": {"type": int, "default": 300},
        "seeds": {"type": int, "default": 3},
    },
)
