"""Every rule on the embedded set: accuracy, alignment angle, step time; 3 seeds with spread.

Each run is the command line's, from `configs/embedded/RULE.cfg`, in a process of its own:

    python -m studies embedded_table

Step times are measured apart from the runs: one process takes 10 steps with each rule in turn, 9
rounds, and gives each rule's median ratio to backprop of the same round. Runs that the output file
holds are not repeated. `--update` writes the results into the docs and into the configs' comments.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.timing import median_ratios, timed
from studies import ROOT
from studies.study import Rows, Study
from studies.table import Place, select, spread
from tfcredit import data
from tfcredit.records import markdown
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import parse
from tfcredit.training.trainer import Trainer

CONFIGS = {path.stem: path for path in sorted((ROOT / "configs" / "embedded").glob("*.cfg"))}
CONFIGS = {"backprop": CONFIGS["backprop"], **CONFIGS}
# Those of another network stand for themselves.
CONFIGS = {rule: path for rule, path in CONFIGS.items() if "--model" not in path.read_text()}
# Of `CONFIGS`, those that the README shows, in its order.
SHOWN = ["backprop", "symmetric_alignment", "calibrated_activation", "calibrated_mirror"]
SHOWN += ["kolen_pollack", "sign_symmetry", "l_drl", "activation_alignment", "feedback_alignment"]
SHOWN += ["info_alignment", "weight_mirror"]
FIELDS = ["rule", "seed", "top1", "mean_angle", "step_ratio", "seconds"]


def train(rule: str, seed: int) -> dict:
    """One run of the command line; returns its row."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run_imagenet.py")]
        command += [f"--flagfile={CONFIGS[rule]}", f"--seed={seed}", f"--run_dir={folder}/run"]
        subprocess.run(command, check=True, capture_output=True)
        summary = json.loads(pathlib.Path(folder, "run", "summary.json").read_text())
    angle = summary["mean_angle"]
    return {
        "rule": rule,
        "seed": seed,
        "top1": summary["top1"],
        "mean_angle": "" if angle is None else angle,
        "seconds": summary["seconds"],
    }


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every rule, seed by seed."""
    for seed in range(flags.seeds):
        for rule in flags.rules:
            yield {"rule": rule, "seed": seed}


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [train(**case)]


def step_ratios(names: Sequence[str]) -> dict[str, float]:
    """Median over interleaved rounds of each rule's step time over backprop's."""
    images = data.get("embedded", augment=False)
    calls = {}
    for name in names:
        plan = Plan.of(parse([f"--flagfile={CONFIGS[name]}"])[0], images)
        network = plan.network()
        network.compile(plan.optimizer())
        # TensorFlow's iterator: the step would be traced anew for each one of Python's.
        batches = iter(images.train(plan.recipe.batch_size, 0, 0).take(1).cache().repeat())
        calls[name] = timed(_ten_steps, Trainer(network), batches)
    return median_ratios(calls, "backprop")


def _ten_steps(trainer: Trainer, batches: Iterator) -> None:
    for _ in range(10):
        trainer.run(batches, 1)


def summary_of(rows: Rows, rule: str) -> dict[str, str]:
    """Mean and spread (half range) of a rule's runs, as text."""
    mine = select(rows, rule=rule)
    return {
        "top1": spread([100 * float(row["top1"]) for row in mine]),
        "angle": spread([float(row["mean_angle"]) for row in mine if row["mean_angle"]]),
        "ratio": f"{float(mine[0]['step_ratio']):.2f}",
        "seconds": f"{statistics.median(float(row['seconds']) for row in mine):.0f}",
        "runs": str(len(mine)),
    }


def table(rows: Rows, names: Iterable[str] = tuple(CONFIGS)) -> str:
    """The rows of some rules as Markdown."""
    head = ["rule", "test top-1, %", "mean angle of W and B, degrees", "step time / backprop"]
    lines = []
    for rule in names:
        if select(rows, rule=rule):
            of = summary_of(rows, rule)
            lines.append([f"`{rule}`", of["top1"], of["angle"], of["ratio"]])
    return markdown(head, lines)


def shown(rows: Rows) -> str:
    """The rows of the rules that the README shows."""
    return table(rows, SHOWN)


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Measures step times if some are missing, and writes the configs' comments if asked to."""
    lacking = dict.fromkeys(row["rule"] for row in rows if not row.get("step_ratio"))
    if lacking:
        ratios = step_ratios(["backprop", *(lacking.keys() - {"backprop"})])
        for row in rows:
            row["step_ratio"] = row.get("step_ratio") or str(round(ratios[row["rule"]], 3))
    if flags.update:
        for rule, path in CONFIGS.items():
            if select(rows, rule=rule):
                update_config(path, summary_of(rows, rule))


def update_config(path: pathlib.Path, of: dict[str, str]) -> None:
    """Writes a rule's results into the opening lines of its config."""
    cost = f"# Cost: {of['seconds']} s on 2 CPU cores (median of {of['runs']} runs)"
    result = f"# Result: test top-1 {of['top1']} %, mean angle {of['angle']} degrees"
    result += f" (mean +- half range, {of['runs']} seeds)"
    lines = path.read_text().splitlines()
    lines = [cost if line.startswith("# Cost:") else line for line in lines]
    lines = [result if line.startswith("# Result:") else line for line in lines]
    path.write_text("\n".join(lines) + "\n")


STUDY = Study(
    "embedded_table",
    __doc__,
    [(table, Place("embedded", "docs/results.md")), (shown, Place("results", "README.md"))],
    FIELDS,
    cases,
    measure,
    finish,
    flags={
        "rules": {"nargs": "+", "default": list(CONFIGS), "choices": CONFIGS},
        "seeds": {"type": int, "default": 3},
    },
)
