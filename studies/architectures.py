"""A small vision transformer and a 1-D convolutional net under alignment rules.

    python -m studies architectures

Networks of Keras layers, converted; embedded Fashion-MNIST, Adam, no augmentation. A run is a
network, a rule and a seed; runs that the output file holds are not repeated.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import keras
import numpy as np

from benchmarks.vision_transformer import vision_transformer
from studies import BASELINE
from studies.study import Rows, Study
from studies.table import Place, select, spread
from tfcredit import analysis, convert, optimizers, rules
from tfcredit.data import embedded
from tfcredit.records import markdown

FIELDS = ["network", "rule", "seed", "epochs", "top1", "mean_angle", "greatest_angle", "seconds"]
L = keras.layers


def conv1d() -> keras.Model:
    """An image's rows as 28 steps of 28 channels; batch-normalised."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Reshape((28, 28)),
            L.Conv1D(32, 5, padding="causal"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv1D(64, 5, 2, "same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv1D(64, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.GlobalAveragePooling1D(),
            L.Dense(10, name="top"),
        ]
    )


RULES = ["backprop", BASELINE, "symmetric_alignment", "info_alignment", "feedback_alignment"]
NETWORKS = {"vision_transformer": vision_transformer, "conv1d": conv1d}


def images() -> dict[str, np.ndarray]:
    """The embedded images, of mean 0 and variance 1."""
    arrays = embedded.load_arrays()
    mean, std = arrays["x_train"].mean(), arrays["x_train"].std()
    return arrays | {part: (arrays[part] - mean) / std for part in ("x_train", "x_test")}


def train(network: str, rule: str, seed: int, epochs: int, examples: int | None = None) -> dict:
    """One run; returns its row."""
    start, arrays = time.perf_counter(), images()
    keras.utils.set_random_seed(seed)
    model = NETWORKS[network]()
    optimizer = keras.optimizers.Adam(1e-3)
    if rule != "backprop":
        model = convert.to_feedback(model, rule, seed=seed)
        own = rules.get(rule).feedback_optimizer
        if own is not None:
            optimizer = optimizers.PartitionedOptimizer(optimizer, optimizers.get(*own))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    x, y = arrays["x_train"][:examples], arrays["y_train"][:examples]
    model.fit(x, y, 64, epochs=epochs, verbose=0)
    top1 = model.evaluate(arrays["x_test"], arrays["y_test"], 500, verbose=0)[1]
    angles = [
        analysis.angle(layer.kernel, layer.feedback_kernel)
        for layer in analysis.feedback_layers(model)
    ]
    return {
        "network": network,
        "rule": rule,
        "seed": seed,
        "epochs": epochs,
        "top1": round(top1, 4),
        "mean_angle": round(statistics.mean(angles), 1) if angles else "",
        "greatest_angle": round(max(angles), 1) if angles else "",
        "seconds": round(time.perf_counter() - start),
    }


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network under every rule, seed by seed."""
    for seed in range(flags.seeds):
        for network in NETWORKS:
            for rule in RULES:
                yield {"network": network, "rule": rule, "seed": seed, "epochs": flags.epochs}


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [train(**case)]


def table(rows: Rows) -> str:
    """Mean and half range over the seeds of each network and rule, as Markdown."""
    lines = []
    for network in NETWORKS:
        for rule in RULES:
            mine = select(rows, network=network, rule=rule)
            top1 = spread([100 * float(row["top1"]) for row in mine])
            angles = spread([float(row["mean_angle"]) for row in mine if row["mean_angle"]])
            lines.append([f"`{network}`", f"`{rule}`", top1, angles])
    return markdown(["network", "rule", "top-1, %", "mean angle, degrees"], lines)


STUDY = Study(
    "architectures",
    __doc__,
    [(table, Place("architectures", "docs/results.md"))],
    FIELDS,
    cases,
    measure,
    flags={"epochs": {"type": int, "default": 10}, "seeds": {"type": int, "default": 3}},
)
