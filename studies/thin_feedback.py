"""Thin feedback: time, kept numbers and accuracy of `low_dimensional_feedback` beside backprop's.

    python -m studies thin_feedback
    python -m studies thin_feedback --networks    # of no network: trains, but times no steps
    python -m studies thin_feedback --trained     # of no network: times steps, but trains none

A step is the forward pass, all errors and all gradients of three equal layers, without an optimizer
and without a loss that would hide the products. All ranks of a network take turns with backprop and
with a whole fixed B in one process; a ratio is that of one round, the median over the rounds is
kept: of wall-clock time, and of the processors' time, which the table shows, as other work on the
machine changes it less.

Accuracy is that of networks for the embedded images after 310 steps by plain `compile` and `fit`:
one Adam for all variables, rate 1e-3 with cosine decay, batch 128, no augmentation. What the output
file holds is not repeated.
"""

import argparse
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from benchmarks.timing import clocked, interleave, summary
from studies import BASELINE, runs
from studies.study import Rows, Study, grid
from studies.table import Place, diverged, select, spread
from tfcredit import layers
from tfcredit.records import markdown

RANKS = [10, 20, 50, 100]
RULES = ["backprop", "feedback_alignment", "low_rank_feedback"]
RULES += [f"low_dimensional_feedback(rank={rank})" for rank in RANKS]
COMPARED = ["backprop", BASELINE, *RULES[1:]]
"""The rules of networks that are trained."""
NETWORKS = {
    "dense 1024": (lambda **o: layers.Dense(1024, "relu", **o), (512, 1024)),
    "dense 2048": (lambda **o: layers.Dense(2048, "relu", **o), (512, 2048)),
    "conv 3x3, 256 channels": (
        lambda **o: layers.Conv2D(256, 3, padding="same", activation="relu", **o),
        (8, 14, 14, 256),
    ),
    "conv 1x1, 512 channels": (
        lambda **o: layers.Conv2D(512, 1, activation="relu", **o),
        (8, 14, 14, 512),
    ),
}
"""Name -> a layer of it, and the shape of a batch."""
DEPTH, STEPS = 3, 3
TRAINED = ["fc", "conv"]
FIELDS = ["network", "rule", "rounds", "wall_ratio", "cpu_ratio", "kept"]
FIELDS += ["seed", "steps", "top1", "loss", "mean_angle", "finite", "seconds"]


def layers_of(name: str, rule: str) -> keras.Model:
    """Some equal layers."""
    make, shape = NETWORKS[name]
    keras.utils.set_random_seed(0)
    made = [make(rule=rule, seed=i) for i in range(DEPTH)]
    return keras.Sequential([keras.Input(shape[1:]), *made])


def step(model: keras.Model, shape: tuple[int, ...]) -> Callable[[], None]:
    """A call that takes some steps."""
    x = tf.constant(np.random.default_rng(0).normal(size=shape), "float32")

    @tf.function(autograph=False)
    def once():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        sources = [x, *(v.value for v in model.trainable_variables)]
        found = tape.gradient(y, sources, unconnected_gradients="zero")
        return tf.add_n([tf.reduce_sum(each) for each in found])

    def run():
        for _ in range(STEPS):
            once().numpy()

    return run


def kept(model: keras.Model) -> int:
    """The numbers that are kept for feedback."""
    own = [v for v in model.weights if v.name.startswith("feedback_")]
    return sum(int(np.prod(v.shape)) for v in own)


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network whose steps are timed, then every one that is trained, seed by seed."""
    for name in flags.networks:
        yield {"network": name, "rounds": flags.rounds}
    seeds, steps = range(flags.seeds), [flags.steps]
    yield from grid(seed=seeds, network=flags.trained, rule=COMPARED, steps=steps)


def measure(case: dict) -> list[dict]:
    """The rows of a case."""
    keras.backend.clear_session()
    return [trained(case)] if "seed" in case else timed(**case)


def trained(case: dict) -> dict:
    """The row of a network that is trained."""
    rate = keras.optimizers.schedules.CosineDecay(1e-3, case["steps"])
    model = runs.make(case["network"], {}, case["rule"], case["seed"], rate)
    return case | runs.train(model, case["seed"], case["steps"])


def timed(network: str, rounds: int) -> list[dict]:
    """The rows of a network whose steps are timed, one for each rule."""
    made = {rule: layers_of(network, rule) for rule in RULES}
    turns = {rule: clocked(step(model, NETWORKS[network][1])) for rule, model in made.items()}
    seconds = interleave(turns, rounds)
    rows = []
    for rule in RULES:
        row = {"network": network, "rounds": rounds, "rule": rule, "kept": kept(made[rule])}
        for index, name in enumerate(("wall_ratio", "cpu_ratio")):
            pair = ([each[index] for each in seconds[r]] for r in (rule, "backprop"))
            row[name] = round(summary(*pair)["ratio"], 3)
        rows.append(row)
    return rows


def table(rows: Rows) -> str:
    """Ratios, and kept numbers per weight, as Markdown."""
    lines = []
    for rule in RULES:
        cells = [_cell(select(rows, network=name, rule=rule), name) for name in NETWORKS]
        lines.append([f"`{rule}`", *cells])
    return markdown(["step / backprop, kept / weights", *NETWORKS], lines)


def _cell(mine: Rows, name: str) -> str:
    if not mine:
        return "-"
    weights = kept(layers_of(name, "feedback_alignment"))
    return f"{float(mine[0]['cpu_ratio']):.2f}, {int(mine[0]['kept']) / weights:.2f}"


def accuracy(rows: Rows) -> str:
    """Top-1 and the angle between W and the product of the factors, as Markdown."""
    lines = []
    for name in TRAINED:
        for rule in COMPARED:
            mine = select(rows, network=name, rule=rule)
            if mine:
                top1 = spread([100 * float(row["top1"]) for row in mine])
                angle = spread([float(row["mean_angle"]) for row in mine if row["mean_angle"]])
                lines.append([f"`{name}`", f"`{rule}`", top1, angle, diverged(mine)])
    return markdown(["network", "rule", "top-1, %", "mean angle", "diverged"], lines)


STUDY = Study(
    "thin_feedback",
    __doc__,
    [
        (table, Place("thin_feedback", "docs/performance.md")),
        (accuracy, Place("thin_accuracy", "docs/results.md")),
    ],
    FIELDS,
    cases,
    measure,
    flags={
        "networks": {"nargs": "*", "default": list(NETWORKS), "choices": NETWORKS},
        "rounds": {"type": int, "default": 9},
        "trained": {"nargs": "*", "default": TRAINED, "choices": TRAINED},
        "steps": {"type": int, "default": 310},
        "seeds": {"type": int, "default": 3},
    },
)
