"""The angle of every layer under `tracking_mirror`, measured and predicted, over training.

    python -m studies tracking_angle

Trains networks as the study `tracking` does. After 10, 100 and 1,000 steps each layer's angle
between W and B stands beside the one that the rule expects, by its noise samples so far and the
growth of W. Runs that the output file holds are not repeated.
"""

import argparse
import math
from collections.abc import Iterator

import keras
import numpy as np

from studies import runs, tracking
from studies.study import Rows, Study
from studies.table import Place, select
from tfcredit import analysis, data
from tfcredit.records import markdown

NETWORKS = ["fc", "conv", "resnet8"]
STEPS = [10, 100, 1000]
FIELDS = ["network", "seed", "step", "layer", "fan_in", "measured", "predicted"]


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network, seed by seed."""
    for seed in range(flags.seeds):
        for network in NETWORKS:
            yield {"network": network, "seed": seed}


def measure(case: dict) -> list[dict]:
    """A row for each layer after each number of steps."""
    keras.backend.clear_session()
    model = tracking.make(case["network"], "tracking_mirror", 1.0, case["seed"], STEPS[-1])
    images = data.get("embedded", augment=False)
    per_epoch, found = images.steps_per_epoch(runs.BATCH), []
    for step in range(STEPS[-1]):
        if step % per_epoch == 0:
            batches = iter(images.train(runs.BATCH, case["seed"], step // per_epoch))
        model.train_on_batch(*next(batches)[:2])
        if step + 1 in STEPS:
            layers = analysis.feedback_layers(model)
            found += [case | {"step": step + 1} | _angles(layer) for layer in layers]
    return found


def _angles(layer) -> dict:
    """Angles in degrees; the predicted one is that of the rule's memory."""
    expected = float(keras.ops.convert_to_numpy(layer.rule_memory)[0])
    return {
        "layer": layer.name,
        "fan_in": layer.connection.axes(layer.kernel.shape.as_list()).fan_in,
        "measured": float(analysis.angle(layer.kernel, layer.feedback_kernel)),
        "predicted": math.degrees(math.atan(math.sqrt(expected))),
    }


def table(rows: Rows) -> str:
    """Angles, and measured over predicted, over layers and seeds, as Markdown."""
    lines = []
    for network in NETWORKS:
        for step in STEPS:
            mine = select(rows, network=network, step=step)
            if not mine:
                continue
            measured, predicted = (
                np.array([float(row[name]) for row in mine]) for name in ("measured", "predicted")
            )
            ratio = measured / predicted
            angles = f"{measured.min():.2f} to {measured.max():.2f}"
            spread = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
            lines.append([f"`{network}`", step, len(mine), angles, spread])
    head = ["network", "steps", "layers", "angle, degrees", "measured / predicted"]
    return markdown(head, lines)


STUDY = Study(
    "tracking_angle",
    __doc__,
    [(table, Place("tracking_angle", "docs/tracking.md"))],
    FIELDS,
    cases,
    measure,
    flags={"seeds": {"type": int, "default": 3}},
)
