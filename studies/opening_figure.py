"""The figure that README.md opens with: accuracy and alignment angle over training, rule by rule.

    python -m studies opening_figure

Trains a narrow ResNet-8 on the embedded images under each rule, three seeds, with the command
line's defaults for optimizers and schedule, by plain `fit`. It measures on all test images every 31
steps. Runs that the output file holds are not repeated; the figure is drawn in any case.
"""

import argparse
import functools
import pathlib
from collections.abc import Iterator

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from studies import ROOT
from studies.study import Rows, Study
from studies.table import select, spread
from tfcredit import analysis, callbacks
from tfcredit.analysis import plots
from tfcredit.records import markdown
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import parse

RULES = ["backprop", "symmetric_alignment", "calibrated_activation", "calibrated_mirror"]
RULES += ["info_alignment", "weight_mirror", "feedback_alignment"]
EPOCHS, EVERY = 4, 31
FIELDS = ["rule", "seed", "step", "top1", "mean_angle"]


def train(rule: str, seed: int) -> list[dict]:
    """One run; returns a row for each time of measurement."""
    flags = ["--dataset=embedded", "--model=resnet8", "--width=4", f"--epochs={EPOCHS}"]
    plan = Plan.of(parse([*flags, f"--rule={rule}", f"--seed={seed}"])[0])
    images = plan.images
    keras.utils.set_random_seed(seed)
    model = plan.network()
    model.compile(plan.optimizer(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y, _ = (part.numpy() for part in next(iter(images.evaluation(images.test_examples))))

    def measure(model: keras.Model) -> list[dict]:
        logits = model.predict(x, batch_size=500, verbose=0)
        top1 = round(float(np.mean(logits.argmax(1) == y)), 4)
        record = {"rule": rule, "seed": seed, "top1": top1}
        if analysis.feedback_layers(model):
            angles = [layer["angle"] for layer in analysis.alignment(model)]
            record["mean_angle"] = round(float(np.mean(angles)), 2)
        return [record]

    monitor = callbacks.MeasureMonitor(x, y, every=EVERY, measures=[measure])
    epochs = [images.train(plan.recipe.batch_size, seed, epoch) for epoch in range(EPOCHS)]
    batches = functools.reduce(tf.data.Dataset.concatenate, epochs)
    model.fit(batches, callbacks=[monitor], shuffle=False, verbose=0)
    keras.backend.clear_session()
    return monitor.records


def draw(rows: list[dict]) -> Figure:
    """Mean over the seeds and the range between them, of accuracy and angle."""
    records = [
        {**row, "step": int(row["step"]), "mean_angle": row.get("mean_angle") or None}
        for row in sorted(rows, key=lambda row: RULES.index(row["rule"]))
    ]
    figure = plots.compare(records)
    for axes in figure.axes:
        axes.set_ylim(0, 92)
    return figure


def save(rows: list[dict], path: pathlib.Path) -> None:
    """Draw into a file: the same bytes for the same numbers."""
    with matplotlib.rc_context({"svg.hashsalt": "tfcredit"}):
        draw(rows).savefig(path, metadata={"Date": None})


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every rule, seed by seed."""
    for seed in range(flags.seeds):
        for rule in RULES:
            yield {"rule": rule, "seed": seed}


def measure(case: dict) -> list[dict]:
    """The rows of a case."""
    return train(**case)


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Draws the figure."""
    save(rows, flags.figure)


def table(rows: Rows) -> str:
    """Mean and half range over the seeds at the end of training, as Markdown."""
    last = max(int(row["step"]) for row in rows)
    lines = []
    for rule in RULES:
        mine = select(rows, rule=rule, step=last)
        top1 = spread([100 * float(row["top1"]) for row in mine])
        angles = spread([float(row["mean_angle"]) for row in mine if row["mean_angle"]])
        lines.append([f"`{rule}`", top1, angles])
    return markdown(["rule", "test top-1, %", "mean angle of W and B, degrees"], lines)


STUDY = Study(
    "opening_figure",
    __doc__,
    [(table, None)],
    FIELDS,
    cases,
    measure,
    finish,
    flags={
        "figure": {"type": pathlib.Path, "default": ROOT / "docs" / "opening.svg"},
        "seeds": {"type": int, "default": 3},
    },
)
