"""Alignment at a smaller price: a part of the batch, low precision, every k-th step.

    python studies/cheaper_alignment.py             # train what studies/results does not hold
    python studies/cheaper_alignment.py --measure   # time steps instead, on a quiet machine
    python studies/cheaper_alignment.py --update    # put the table into docs/imagenet.md, too

Trains networks on the embedded images with the command line's defaults but for the flags of each
variant, seeds 0 to 2. Step costs are measured apart: all variants of a network in turn in one
process, each one's median ratio to backprop of the same round, in wall-clock time and in CPU time,
which other programs disturb less. Of ResNet-18, on synthetic images, only steps are measured.
"""

import argparse
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import tabulation

from tfcredit import analysis, rules
from tfcredit.training import assemble
from tfcredit.training.environment import environment
from tfcredit.training.recipe import parse
from tfcredit.training.trainer import Trainer

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "imagenet.md"
RUNS = ROOT / "studies" / "results" / "cheaper_alignment.csv"
COSTS = ROOT / "studies" / "results" / "cheaper_alignment_steps.csv"
NETWORKS = {
    "resnet8": ["--dataset=embedded", "--model=resnet8", "--width=8"],
    "conv": ["--dataset=embedded", "--model=conv", "--learning_rate=0.02"],
    "resnet18": ["--dataset=synthetic", "--model=resnet18", "--batch_size=16"],
}
TRAINED = ["resnet8", "conv"]
FRACTION, EVERY, PRECISION = "--alignment_fraction", "--alignment_every", "--alignment_precision"
RATE = rules.get("info_alignment").feedback_optimizer[1]
# Name -> flags; the rule is info_alignment unless they say another.
VARIANTS = {
    "exact": [],
    **{f"fraction 1/{k}": [f"{FRACTION}={1 / k}"] for k in (2, 4, 8, 16)},
    "bfloat16": [f"{PRECISION}=bfloat16"],
    **{f"every {k}": [f"{EVERY}={k}"] for k in (2, 4, 8)},
    **{
        f"every {k}, rate x {k}": [f"{EVERY}={k}", f"--feedback_learning_rate={k * RATE}"]
        for k in (4, 8)
    },
    "fraction 1/8, bfloat16": [f"{FRACTION}=0.125", f"{PRECISION}=bfloat16"],
    "activation_alignment, exact": ["--rule=activation_alignment"],
    "activation_alignment, fraction 1/8": ["--rule=activation_alignment", f"{FRACTION}=0.125"],
}
BACKPROP = {"backprop": ["--rule=backprop"]}
FIELDS = ["network", "variant", "seed", "steps", "top1", "loss", "mean_angle", "seconds"]
COST_FIELDS = ["network", "variant", "wall", "cpu", "rounds"]


def make(network: str, flags: list[str], seed: int, steps: int):
    """The trainer of a run, its images and its batch size."""
    given = parse([*NETWORKS[network], *flags, f"--seed={seed}", f"--steps={steps}"])[0]
    recipe, images = assemble.with_data(given)
    keras.utils.set_random_seed(seed)
    model = assemble.network(recipe, images)
    model.compile(assemble.optimizer(recipe, images.steps_per_epoch(recipe.batch_size)))
    return Trainer(model, alignment_every=recipe.alignment_every), images, recipe.batch_size


def train(network: str, variant: str, seed: int, steps: int) -> dict:
    """One run; returns its row."""
    started = time.process_time()
    trainer, images, batch = make(network, VARIANTS[variant], seed, steps)
    per_epoch, done = images.steps_per_epoch(batch), 0
    while done < steps:
        count = min(per_epoch, steps - done)
        trainer.run(iter(images.train(batch, seed, done // per_epoch)), count, first=done)
        done += count
    results = trainer.evaluate(images.evaluation(500))
    angles = [record["angle"] for record in analysis.alignment(trainer.network)]
    row = {"network": network, "variant": variant, "seed": seed, "steps": steps}
    row |= {"top1": results["top1"], "loss": results["loss"]}
    row |= {"mean_angle": statistics.mean(angles)}
    return row | {"seconds": round(time.process_time() - started, 1)}


def measure(network: str, variants: list[str], rounds: int, turn: int) -> list[dict]:
    """Each variant's time of `turn` steps over backprop's: the medians of the rounds."""
    trainers, times = {}, {}
    for name, flags in (BACKPROP | {name: VARIANTS[name] for name in variants}).items():
        trainers[name], images, batch = make(network, flags, 0, turn)
        batches = iter(images.train(batch, 0, 0).take(1).cache().repeat())
        trainers[name].run(batches, turn)  # tracing is not counted
        times[name] = []
    for _ in range(rounds):
        for name, trainer in trainers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            trainer.run(batches, turn)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    def ratio(name, clock):
        pairs = zip(times[name], times["backprop"], strict=True)
        return f"{statistics.median(mine[clock] / base[clock] for mine, base in pairs):.2f}"

    return [
        {"network": network, "variant": name, "wall": ratio(name, 0), "cpu": ratio(name, 1)}
        | {"rounds": rounds}
        for name in variants
    ]


def table(rows: list[dict], costs: list[dict]) -> str:
    """Mean and half range over the seeds, and the costs, as Markdown."""
    lines = ["| network | alignment | top-1, % | mean angle | step / backprop: wall | CPU |"]
    lines.append("|" + "---|" * 6)
    for network in NETWORKS:
        for variant in VARIANTS:
            mine, cost = (
                [row for row in some if (row["network"], row["variant"]) == (network, variant)]
                for some in (rows, costs)
            )
            if mine or cost:
                top1 = tabulation.spread([100 * float(row["top1"]) for row in mine])
                angle = tabulation.spread([float(row["mean_angle"]) for row in mine])
                wall, cpu = (cost[0]["wall"], cost[0]["cpu"]) if cost else "--"
                lines.append(f"| `{network}` | {variant} | {top1} | {angle} | {wall} | {cpu} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the file of runs does not hold yet, or measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=TRAINED, choices=NETWORKS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=470)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help="time steps anew, train nothing")
    parser.add_argument("--rounds", type=int, default=9, help="of --measure")
    parser.add_argument("--turn", type=int, default=8, help="steps of a variant in a round")
    parser.add_argument("--update", action="store_true", help="write the table into docs")
    flags = parser.parse_args()
    rows, costs = tabulation.read(RUNS), tabulation.read(COSTS)
    done = {(row["network"], row["variant"], int(row["seed"]), int(row["steps"])) for row in rows}
    trained = [name for name in flags.networks if name in TRAINED and not flags.measure]
    for seed in range(flags.seeds):
        for network in trained:
            for variant in flags.variants:
                if (network, variant, seed, flags.steps) in done:
                    continue
                rows.append(train(network, variant, seed, flags.steps))
                print(rows[-1], flush=True)
                tabulation.write(RUNS, FIELDS, rows)
                keras.backend.clear_session()
    for network in flags.networks if flags.measure else ():
        fresh = measure(network, flags.variants, flags.rounds, flags.turn)
        known = {(row["network"], row["variant"]) for row in fresh}
        costs = [row for row in costs if (row["network"], row["variant"]) not in known] + fresh
        tabulation.write(COSTS, COST_FIELDS, costs)
    print(table(rows, costs))
    print(environment())
    if flags.update:
        tabulation.put("cheaper_alignment", table(rows, costs), PAGE)


if __name__ == "__main__":
    main()
