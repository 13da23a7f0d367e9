"""Costs of a run on ImageNet, by a model: FLOPs, bytes, checkpoint, time, images to feed.

    python -m studies imagenet_cost             # Markdown tables from studies/results
    python -m studies imagenet_cost --count     # count the layers of all networks again
    python -m studies imagenet_cost --measure   # time steps on this machine again
    python -m studies imagenet_cost --update    # put the tables into docs/imagenet.md

`imagenet_model.py` says what the model is.
"""

import argparse
import dataclasses
import math

import keras
import numpy as np

from benchmarks.timing import interleave, summary, timed
from studies import ROOT
from studies.imagenet_model import BATCH, COUNTS, DEVICES, RULES, SIZES, Counts, cost, read_counts
from studies.study import Rows, Study
from studies.table import Place, read, write
from tfcredit import models, optimizers, rules
from tfcredit.layers.feedback import FeedbackLayer
from tfcredit.records import markdown

MEASURED = ROOT / "studies" / "results" / "imagenet_steps.csv"
PAGE = "docs/imagenet.md"
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

    def take(network: keras.Model) -> None:
        for _ in range(steps):
            network.train_on_batch(images, labels)

    seconds = interleave({name: timed(take, each) for name, each in networks.items()}, rounds)
    rows = []
    for name in RULES:
        ratios = [a / b for a, b in zip(seconds[name], seconds["backprop"], strict=True)]
        found = summary(seconds[name], seconds["backprop"])
        row = {"rule": name, "batch": batch, "rounds": rounds, "ratio": found["ratio"]}
        row |= {"least": min(ratios), "largest": max(ratios)}
        rows.append(row | {"seconds": found["seconds"] / steps})
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


def networks_table(rows: Rows) -> str:
    """Size of each network, as Markdown."""
    head = ["network", "image", "GFLOP, forward, per image", "weights, M", "feedback kernels, M"]
    lines = [
        [name, SIZES[name], f"{2 * counts.macs / 1e9:.2f}"]
        + [f"{counts.trainable / 1e6:.2f}", f"{counts.kernels / 1e6:.2f}"]
        for name, counts in read_counts().items()
    ]
    return markdown(head, lines)


def costs_table(rows: Rows) -> str:
    """Cost of each network with each rule, as Markdown."""
    head = ["network", "rule", "TFLOP a step", "GB a step", "checkpoint, MB"]
    for name in DEVICES:
        head += [f"hours, {name}", f"images/s, {name}", "cores to feed it"]
    lines = []
    for network, counts in read_counts().items():
        for rule in RULES:
            of = cost(counts, rule)
            line = [network, f"`{rule}`", f"{of.flops * BATCH / 1e12:.2f}"]
            line += [f"{of.step_bytes / 1e9:.0f}", f"{of.checkpoint / 1e6:.0f}"]
            for device in DEVICES:
                rate = of.images_per_second(device)
                line += [f"{of.hours(device):.1f}", f"{rate:,.0f}"]
                line.append(math.ceil(rate / IMAGES_PER_CORE))
            lines.append(line)
    return markdown(head, lines)


def measured_table(rows: Rows) -> str:
    """Predicted and measured step times of ResNet-18 over backprop's, as Markdown."""
    counts = read_counts()["resnet18"]
    base = cost(counts, "backprop").flops
    head = ["rule", "FLOPs / backprop (model)", "step time / backprop (median)", "range"]
    lines = []
    for row in read(MEASURED):
        ratio, low, high = (float(row[key]) for key in ("ratio", "least", "largest"))
        model = cost(counts, row["rule"]).flops / base
        lines.append(
            [f"`{row['rule']}`", f"{model:.2f}", f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"]
        )
    return markdown(head, lines)


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Counts and measures what is asked for."""
    if flags.count:
        counted = []
        for name in SIZES:
            counted.append({"network": name} | dataclasses.asdict(count(name)))
            keras.backend.clear_session()
        write(COUNTS, list(counted[0]), counted)
    if flags.measure:
        measured = measure(flags.batch, flags.rounds, flags.steps)
        write(MEASURED, list(measured[0]), measured)


STUDY = Study(
    "imagenet_cost",
    __doc__,
    [
        (networks_table, Place("networks", PAGE)),
        (costs_table, Place("costs", PAGE)),
        (measured_table, Place("measured", PAGE)),
    ],
    finish=finish,
    flags={
        "count": {"action": "store_true", "help": "count the layers of all networks"},
        "measure": {"action": "store_true", "help": "time steps on this machine"},
        "batch": {"type": int, "default": 8, "help": "images per measured step"},
        "rounds": {"type": int, "default": 15},
        "steps": {"type": int, "default": 2, "help": "per rule and round"},
    },
)
