"""Alignment at a smaller price: a part of the batch, low precision, every k-th step.

    python studies/cheaper_alignment.py --output=studies/results/cheaper_alignment.csv
    python studies/cheaper_alignment.py --measure   # step costs too, on a quiet machine
    python studies/cheaper_alignment.py --update    # put the table into docs/imagenet.md

Trains networks on the embedded images with the command line's defaults but for the flags of each
variant, seeds 0 to 2. Step costs are measured apart: all variants of a network in turn in one
process, each one's median ratio to backprop of the same round, in wall-clock time and in CPU time,
which other programs disturb less. Runs that the output file holds are not repeated.
"""

import argparse
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import tabulation

from tfcredit import analysis, data, rules
from tfcredit.training import assemble
from tfcredit.training.recipe import parse
from tfcredit.training.run import environment
from tfcredit.training.trainer import Trainer

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "imagenet.md"
NETWORKS = {
    "resnet8": ["--model=resnet8", "--width=8"],
    "conv": ["--model=conv", "--learning_rate=0.02"],
}
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
FIELDS += ["wall_ratio", "cpu_ratio"]


def make(network: str, flags: list[str], seed: int, steps: int):
    """The trainer of a run, its images and its batch size."""
    images = data.get("embedded", augment=False)
    given = parse([*NETWORKS[network], *flags, f"--seed={seed}", f"--steps={steps}"])[0]
    recipe = assemble.complete(given, images)
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


def ratios(network: str, variants: set, rounds: int) -> dict[str, tuple[float, float]]:
    """Each variant's time of 8 steps over backprop's, medians of rounds: wall clock and CPU."""
    trainers, times = {}, {}
    for name, flags in (BACKPROP | {name: VARIANTS[name] for name in variants}).items():
        trainers[name], images, batch = make(network, flags, 0, 8)
        batches = iter(images.train(batch, 0, 0).take(1).cache().repeat())
        trainers[name].run(batches, 8)  # tracing is not counted
        times[name] = []
    for _ in range(rounds):
        for name, trainer in trainers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            trainer.run(batches, 8)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    def ratio(name, clock):
        pairs = zip(times[name], times["backprop"], strict=True)
        return statistics.median(mine[clock] / base[clock] for mine, base in pairs)

    return {name: (ratio(name, 0), ratio(name, 1)) for name in times}


def table(rows: list[dict]) -> str:
    """Mean and half range over the seeds, as Markdown."""
    lines = ["| network | alignment | top-1, % | mean angle | step / backprop (CPU time) |"]
    lines.append("|" + "---|" * 5)
    for network in NETWORKS:
        for variant in VARIANTS:
            mine = [row for row in rows if (row["network"], row["variant"]) == (network, variant)]
            if mine:
                top1 = tabulation.spread([100 * float(row["top1"]) for row in mine])
                angle = tabulation.spread([float(row["mean_angle"]) for row in mine])
                cost = mine[0].get("cpu_ratio") or "-"
                lines.append(f"| `{network}` | {variant} | {top1} | {angle} | {cost} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the output file does not hold yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = pathlib.Path("studies/results/cheaper_alignment.csv")
    parser.add_argument("--output", type=pathlib.Path, default=default)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help="measure step costs anew")
    parser.add_argument("--rounds", type=int, default=9, help="of --measure")
    parser.add_argument("--update", action="store_true", help="write the table into docs")
    flags = parser.parse_args()
    rows = tabulation.read(flags.output)
    done = {(row["network"], row["variant"], int(row["seed"]), int(row["steps"])) for row in rows}
    for seed in range(flags.seeds):
        for network in flags.networks:
            for variant in flags.variants:
                if (network, variant, seed, flags.steps) in done:
                    continue
                rows.append(train(network, variant, seed, flags.steps))
                print(rows[-1], flush=True)
                tabulation.write(flags.output, FIELDS, rows)
                keras.backend.clear_session()
    for network in flags.networks if flags.measure else ():
        mine = [row for row in rows if row["network"] == network]
        measured = ratios(network, {row["variant"] for row in mine}, flags.rounds)
        for row in mine:
            wall, cpu = measured[row["variant"]]
            row |= {"wall_ratio": f"{wall:.2f}", "cpu_ratio": f"{cpu:.2f}"}
        tabulation.write(flags.output, FIELDS, rows)
    print(table(rows))
    print(environment())
    if flags.update:
        tabulation.put("cheaper_alignment", table(rows), PAGE)


if __name__ == "__main__":
    main()
