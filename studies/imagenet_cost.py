"""What a run on ImageNet costs, by a model: FLOPs, bytes, checkpoint, time, images to feed.

    python studies/imagenet_cost.py             # Markdown tables from studies/results
    python studies/imagenet_cost.py --count     # count the layers of all networks again
    python studies/imagenet_cost.py --measure   # time steps on this machine again
    python studies/imagenet_cost.py --update    # put the tables into docs/imagenet.md

`imagenet_model.py` says what the model is.
"""

import argparse
import csv
import dataclasses
import math
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))  # as when run as a script

import keras
import numpy as np
from imagenet_model import BATCH, COUNTS, DEVICES, RULES, SIZES, Counts, cost, read_counts

from tfcredit import models, optimizers, rules
from tfcredit.layers.feedback import FeedbackLayer

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEASURED = ROOT / "studies" / "results" / "imagenet_steps.csv"
PAGE = ROOT / "docs" / "imagenet.md"
IMAGES_PER_CORE = 584
"""Decoded, cropped and resized a second by one core of the development machine."""


def count(network: str) -> Counts:
    """Builds a network and counts its layers.

    Args:
        network: Its name.

    Returns:
        The counts.
    """
    size = SIZES[network]
    model = models.get(network, 1000, (size, size, 3), "backprop", seed=0)
    layers = [layer for layer in model.layers if isinstance(layer, FeedbackLayer)]
    macs, moved = [], []
    for layer in layers:
        kernel, outputs = layer.kernel.shape, layer.output.shape[1:]
        positions = int(np.prod(outputs[:-1]))
        macs.append(int(np.prod(kernel)) * positions)
        moved.append(int(np.prod(layer.input.shape[1:])) + int(np.prod(outputs)))
    return Counts(
        macs=sum(macs),
        first_macs=macs[0],
        moved=sum(moved),
        first_moved=moved[0],
        kernels=sum(int(np.prod(layer.kernel.shape)) for layer in layers),
        trainable=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        statistics=sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights),
    )


def measure(batch: int, rounds: int, steps: int) -> list[dict]:
    """Times steps of ResNet-18 with each rule, in turn, so that other load meets all alike.

    Args:
        batch: Images per step.
        rounds: How often each rule has its turn.
        steps: Steps per turn.

    Returns:
        A row per rule with the median ratio to backprop, its least and largest, and seconds.
    """
    random = np.random.RandomState(0)
    images = random.randn(batch, 224, 224, 3).astype("float32")
    labels = random.randint(1000, size=batch)
    networks = {name: _compiled(name) for name in RULES}
    for network in networks.values():
        network.train_on_batch(images, labels)  # tracing is not counted
    seconds = {name: [] for name in RULES}
    for _ in range(rounds):
        for name, network in networks.items():
            started = time.perf_counter()
            for _ in range(steps):
                network.train_on_batch(images, labels)
            seconds[name].append((time.perf_counter() - started) / steps)
    rows = []
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(values, seconds["backprop"], strict=True)]
        row = {"rule": name, "batch": batch, "rounds": rounds}
        row |= {"ratio": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}
        rows.append(row | {"seconds": statistics.median(values)})
    return rows


def _compiled(rule_name: str) -> keras.Model:
    """ResNet-18 with the optimizers of the command line's defaults."""
    network, rule = models.get("resnet18", rule=rule_name, seed=0), rules.get(rule_name)
    optimizer = optimizers.get("momentum", 1e-3)
    if rule.learns and not rule.follows_forward:
        feedback = optimizers.get(*rule.feedback_optimizer)
        optimizer = optimizers.PartitionedOptimizer(forward=optimizer, feedback=feedback)
    network.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


def networks_table() -> str:
    """Size of each network, as Markdown."""
    lines = ["| network | image | GFLOP, forward, per image | weights, M | feedback kernels, M |"]
    lines.append("|---|---|---|---|---|")
    for name, counts in read_counts().items():
        lines.append(
            f"| {name} | {SIZES[name]} | {2 * counts.macs / 1e9:.2f} | "
            f"{counts.trainable / 1e6:.2f} | {counts.kernels / 1e6:.2f} |"
        )
    return "\n".join(lines)


def costs_table() -> str:
    """Cost of each network with each rule, as Markdown."""
    devices = [f"hours, {name} | images/s, {name} | cores to feed it" for name in DEVICES]
    titles = ["network", "rule", "TFLOP a step", "GB a step", "checkpoint, MB", *devices]
    lines = [f"| {' | '.join(titles)} |", "|---" * (len(titles) + 2 * len(DEVICES)) + "|"]
    for network, counts in read_counts().items():
        for rule in RULES:
            of = cost(counts, rule)
            cells = [network, f"`{rule}`", f"{of.flops * BATCH / 1e12:.2f}"]
            cells += [f"{of.step_bytes / 1e9:.0f}", f"{of.checkpoint / 1e6:.0f}"]
            for device in DEVICES:
                rate = of.images_per_second(device)
                cells += [f"{of.hours(device):.1f}", f"{rate:,.0f}"]
                cells.append(f"{math.ceil(rate / IMAGES_PER_CORE)}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_table() -> str:
    """Predicted and measured step times of ResNet-18 over backprop's, as Markdown."""
    with MEASURED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = read_counts()["resnet18"]
    base = cost(counts, "backprop").flops
    lines = ["| rule | FLOPs / backprop (model) | step time / backprop (median) | range |"]
    lines.append("|---|---|---|---|")
    for row in rows:
        ratio, low, high = (float(row[key]) for key in ("ratio", "least", "largest"))
        model = cost(counts, row["rule"]).flops / base
        lines.append(f"| `{row['rule']}` | {model:.2f} | {ratio:.2f} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines)


def write(path: pathlib.Path, rows: list[dict]) -> None:
    """Writes rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def put(name: str, table: str) -> None:
    """Replaces what stands between `<!-- TABLE:name -->` and the next `<!-- END -->`."""
    begin, end = f"<!-- TABLE:{name} -->\n", "<!-- END -->"
    head, rest = PAGE.read_text().split(begin)
    PAGE.write_text(f"{head}{begin}\n{table}\n\n{end}{rest.split(end, 1)[1]}")


def main() -> None:
    """Counts and measures what is asked for, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for flag in ("count", "measure", "update"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--batch", type=int, default=8, help="images per measured step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="per rule and round")
    flags = parser.parse_args()
    if flags.count:
        rows = []
        for name in SIZES:
            rows.append({"network": name} | dataclasses.asdict(count(name)))
            keras.backend.clear_session()
        write(COUNTS, rows)
    if flags.measure:
        write(MEASURED, measure(flags.batch, flags.rounds, flags.steps))
    tables = {"networks": networks_table(), "costs": costs_table(), "measured": measured_table()}
    for name, table in tables.items():
        print(f"{table}\n")
        if flags.update:
            put(name, table)


if __name__ == "__main__":
    main()
