"""Every rule on the embedded set: accuracy, alignment angle, step time; 3 seeds with spread.

Each run is the command line's, from `configs/embedded/RULE.cfg`, in a process of its own:

    python studies/embedded_table.py --output=studies/results/embedded.csv

Step times are measured apart from the runs: one process takes 10 steps with each rule in turn, 9
rounds, and gives each rule's median ratio to backprop of the same round. Runs that the output file
holds are not repeated. `--update` writes the results into README.md and the configs.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import tabulation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = {path.stem: path for path in sorted((ROOT / "configs" / "embedded").glob("*.cfg"))}
CONFIGS = {"backprop": CONFIGS["backprop"], **CONFIGS}
# Those of another network stand for themselves.
CONFIGS = {rule: path for rule, path in CONFIGS.items() if "--model" not in path.read_text()}
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


def step_ratios(names: list[str]) -> dict[str, float]:
    """Median over interleaved rounds of each rule's step time over backprop's."""
    import embedded_runs

    from tfcredit import data
    from tfcredit.training import assemble
    from tfcredit.training.recipe import parse
    from tfcredit.training.trainer import Trainer

    images = data.get("embedded", augment=False)
    trainers, batches = {}, None
    for name in names:
        recipe = assemble.complete(parse([f"--flagfile={CONFIGS[name]}"])[0], images)
        network = assemble.network(recipe, images)
        per_epoch = images.steps_per_epoch(recipe.batch_size)
        network.compile(assemble.optimizer(recipe, per_epoch))
        trainers[name] = Trainer(network)
        # TensorFlow's iterator: the step would be traced anew for each one of Python's.
        batches = iter(images.train(recipe.batch_size, 0, 0).take(1).cache().repeat())
    calls = {
        name: lambda trainer=trainer: [trainer.run(batches, 1) for _ in range(10)]
        for name, trainer in trainers.items()
    }
    return embedded_runs.step_ratios(calls, "backprop")


def summary_of(rows: list[dict], rule: str) -> dict[str, str]:
    """Mean and spread (half range) of a rule's runs, as text."""
    mine = [row for row in rows if row["rule"] == rule]
    return {
        "top1": tabulation.spread([100 * float(row["top1"]) for row in mine]),
        "angle": tabulation.spread([float(a) for row in mine if (a := row["mean_angle"]) != ""]),
        "ratio": f"{float(mine[0]['step_ratio']):.2f}",
        "seconds": f"{statistics.median(float(row['seconds']) for row in mine):.0f}",
        "runs": str(len(mine)),
    }


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = ["| rule | test top-1, % | mean angle of W and B, degrees | step time / backprop |"]
    lines.append("|---|---|---|---|")
    for rule in CONFIGS:
        if any(row["rule"] == rule for row in rows):
            of = summary_of(rows, rule)
            lines.append(f"| `{rule}` | {of['top1']} | {of['angle']} | {of['ratio']} |")
    return "\n".join(lines)


def update(rows: list[dict]) -> None:
    """Write the results into README.md and the opening lines of the configs."""
    tabulation.put("embedded", table(rows))
    for rule in CONFIGS:
        if all(row["rule"] != rule for row in rows):
            continue
        of = summary_of(rows, rule)
        cost = f"# Cost: {of['seconds']} s on 2 CPU cores (median of {of['runs']} runs)"
        result = f"# Result: test top-1 {of['top1']} %, mean angle {of['angle']} degrees"
        result += f" (mean +- half range, {of['runs']} seeds)"
        path = CONFIGS[rule]
        lines = path.read_text().splitlines()
        lines = [cost if line.startswith("# Cost:") else line for line in lines]
        lines = [result if line.startswith("# Result:") else line for line in lines]
        path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run what is missing, measure step times, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=pathlib.Path, default=ROOT / "studies/results/embedded.csv"
    )
    parser.add_argument("--rules", nargs="+", default=list(CONFIGS), choices=CONFIGS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--update", action="store_true", help="write README.md and configs")
    flags = parser.parse_args()
    rows = tabulation.read(flags.output)
    for seed in range(flags.seeds):
        for rule in flags.rules:
            if any(row["rule"] == rule and int(row["seed"]) == seed for row in rows):
                continue
            rows.append(train(rule, seed))
            tabulation.write(flags.output, FIELDS, rows)
            print(rows[-1], flush=True)
    if any(row.get("step_ratio", "") in ("", None) for row in rows):
        ratios = step_ratios([rule for rule in CONFIGS if any(row["rule"] == rule for row in rows)])
        for row in rows:
            row["step_ratio"] = round(ratios[row["rule"]], 3)
        tabulation.write(flags.output, FIELDS, rows)
    print(table(rows))
    if flags.update:
        update(rows)


if __name__ == "__main__":
    main()
