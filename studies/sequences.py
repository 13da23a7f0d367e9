"""Recurrent networks under alignment rules, on a sum that is asked for 20 steps later.

    python -m studies sequences

The adding problem: of 30 numbers, uniform in [0, 1), one of the first ten and one of the next ten
are marked, and the sum of both is asked for after the last. Whoever guesses its mean errs by a
mean square of 0.167. Fresh batches of 64; an `LSTM` or `GRU` of 32 units and a dense layer; Adam at
0.003. A run is a layer, a rule of all kernels and a seed; runs that the output file holds are not
repeated. The milliseconds of a step are the median of those of the run.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import keras
import numpy as np

from studies import BASELINE
from studies.study import Rows, Study, grid
from studies.table import Place, select, spread
from tfcredit import analysis, convert, optimizers, rules
from tfcredit.records import markdown

FIELDS = ["layer", "rule", "seed", "steps", "error", "solved", "angle", "recurrent_angle", "ms"]
LAYERS = ("LSTM", "GRU")
RULES = [
    "backprop",
    BASELINE,
    "tracking_mirror",
    "calibrated_mirror",
    "symmetric_alignment",
    "info_alignment",
    "feedback_alignment",
]
LENGTH, BATCH, UNITS = 30, 64, 32
PART = 50
"""Steps that are timed together."""
SOLVED = 0.1
"""An answer is right if it is off by less."""


def sums(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences `[count, LENGTH, 2]` of numbers and marks, and their sums `[count, 1]`."""
    numbers, marks = random.uniform(size=(count, LENGTH)), np.zeros((count, LENGTH))
    first, second = random.integers([0, 10], [10, 20], (count, 2)).T
    marks[range(count), first] = marks[range(count), second] = 1.0
    x = np.stack([numbers, marks], -1).astype("float32")
    return x, (numbers * marks).sum(1, keepdims=True).astype("float32")


def network(layer: str, rule: str, seed: int) -> keras.Model:
    """A compiled network."""
    keras.utils.set_random_seed(seed)
    options = {"use_cudnn": False}
    recurrent = getattr(keras.layers, layer)(UNITS, name="recurrent", **options)
    model = keras.Sequential([keras.Input((LENGTH, 2)), recurrent, keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam(3e-3)
    if rule != "backprop":
        model = convert.to_feedback(model, rule, seed=seed)
        own = rules.get(rule).feedback_optimizer
        if own is not None:
            optimizer = optimizers.PartitionedOptimizer(optimizer, optimizers.get(*own))
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def train(layer: str, rule: str, seed: int, steps: int) -> dict:
    """One run; returns its row."""
    model, random, seconds = network(layer, rule, seed), np.random.default_rng(seed), []
    while len(seconds) * PART < steps:
        x, y = sums(random, PART * BATCH)
        start = time.perf_counter()
        model.fit(x, y, BATCH, shuffle=False, verbose=0)
        seconds.append((time.perf_counter() - start) / PART)
    x, y = sums(np.random.default_rng(10**6 + seed), 2000)
    errors = model.predict(x, 500, verbose=0) - y
    angles = {"kernel": "", "recurrent_kernel": ""}
    if rules.get(rule).has_feedback_kernel:
        for record in analysis.alignment(model):
            angles[record["layer"].split("/")[-1]] = round(record["angle"], 1)
    return {
        "layer": layer,
        "rule": rule,
        "seed": seed,
        "steps": steps,
        "error": round(float(np.mean(errors**2)), 5),
        "solved": round(float(np.mean(np.abs(errors) < SOLVED)), 4),
        "angle": angles["kernel"],
        "recurrent_angle": angles["recurrent_kernel"],
        "ms": round(1e3 * statistics.median(seconds), 2),
    }


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every layer under every rule, seed by seed."""
    seeds = range(flags.seeds)
    return grid(seed=seeds, layer=flags.layers, rule=flags.rules, steps=[flags.steps])


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [train(**case)]


def table(rows: Rows) -> str:
    """Mean and half range over the seeds of each layer and rule, as Markdown."""
    lines = []
    for layer in LAYERS:
        for rule in RULES:
            mine = select(rows, layer=layer, rule=rule)
            if not mine:
                continue
            solved = spread([100 * float(row["solved"]) for row in mine])
            angles = [
                spread([float(row[name]) for row in mine if row[name]])
                for name in ("angle", "recurrent_angle")
            ]
            error = f"{statistics.median(float(row['error']) for row in mine):.4f}"
            seeds = str(len(mine))
            lines.append([f"`{layer}`", f"`{rule}`", seeds, error, solved, *angles])
    titles = ["layer", "rule", "seeds", "error, median", "within 0.1, %"]
    return markdown([*titles, "angle, degrees", "recurrent angle, degrees"], lines)


STUDY = Study(
    "sequences",
    __doc__,
    [(table, Place("sequences", "docs/results.md"))],
    FIELDS,
    cases,
    measure,
    flags={
        "steps": {"type": int, "default": 1500},
        "seeds": {"type": int, "default": 3},
        "layers": {"nargs": "+", "choices": LAYERS, "default": [*LAYERS]},
        "rules": {"nargs": "+", "choices": RULES, "default": RULES},
    },
)
