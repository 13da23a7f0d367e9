"""Rules that send the output's error straight to every layer, and what a decay does to their B.

    python -m studies direct_rules

Trains two networks without batch norm by plain `compile` and `fit`: one Adam for all variables,
rate 1e-3 with cosine decay, batch 128, no augmentation. (By SGD with momentum 0.9 at 0.05 direct
rules diverge: after 310 steps of `fc` they have 10 to 12 % top-1, direct feedback alignment 71.)
The angle is that between the B of an activity and the product of all W above it, activations left
out: along that product backprop would send the error. Runs that the output file holds are not
repeated.
"""

import argparse
from collections.abc import Iterator

import keras
import tensorflow as tf

from studies import BASELINE, runs
from studies.study import Rows, Study, grid
from studies.table import Place, diverged, select, spread
from tfcredit import analysis
from tfcredit.layers import DirectFeedback, FeedbackLayer
from tfcredit.records import markdown

NETWORKS = ["fc", "conv"]
DECAYS = [0.0, 0.0002, 0.002, 0.02, 0.2]
RULES = ["backprop", BASELINE, "feedback_alignment", "direct_feedback_alignment"]
RULES += [f"direct_kolen_pollack(decay={decay:g})" for decay in DECAYS]
RULES += ["drtp"]
FIELDS = ["network", "rule", "seed", "steps", "top1", "loss", "finite", "seconds", "angles"]


def products(model: keras.Model) -> list[tf.Tensor]:
    """The product of all W above each activity, from the bottom up.

    Args:
        model: A chain of layers, of which each that flattens or has a kernel counts.

    Returns:
        A product `[logits, size of the activity]` for each layer with a kernel but the first.
    """
    rows, found = tf.eye(model.output_shape[-1]), []
    for layer in reversed(model.layers[1:]):
        if isinstance(layer, FeedbackLayer):
            shape = [rows.shape[0], *layer.input.shape[1:]]
            kernel = tf.convert_to_tensor(layer.kernel)
            rows = layer.connection.op_transpose(rows, kernel, tf.constant(shape))
            found.append(tf.reshape(rows, [shape[0], -1]))
        elif isinstance(layer, keras.layers.Flatten):
            rows = tf.reshape(rows, [rows.shape[0], *layer.input.shape[1:]])
    return found[::-1][1:]


def angles(model: keras.Model) -> list[float]:
    """Between each direct kernel and its product, from the bottom up; none without such kernels."""
    direct = [layer for layer in model.layers if isinstance(layer, DirectFeedback)]
    pairs = zip(direct[0].feedback_kernels, products(model), strict=True) if direct else ()
    return [analysis.angle(kernel, product) for kernel, product in pairs]


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network under every rule, seed by seed."""
    seeds = range(flags.seeds)
    return grid(seed=seeds, network=flags.networks, rule=RULES, steps=[flags.steps])


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    keras.backend.clear_session()
    rate = keras.optimizers.schedules.CosineDecay(1e-3, case["steps"])
    model = runs.make(case["network"], {}, case["rule"], case["seed"], rate)
    row = case | runs.train(model, case["seed"], case["steps"])
    row.pop("mean_angle")
    return [row | {"angles": " ".join(f"{angle:.1f}" for angle in angles(model))}]


def table(rows: Rows) -> str:
    """Accuracy and angles, as Markdown."""
    head = ["network", "rule", "top-1, %", "diverged", "angle at the top", "angle at the bottom"]
    lines = []
    for network in NETWORKS:
        for rule in RULES:
            mine = select(rows, network=network, rule=rule)
            if not mine:
                continue
            top1 = spread([100 * float(row["top1"]) for row in mine])
            found = [list(map(float, row["angles"].split())) for row in mine if row["angles"]]
            ends = [spread([each[end] for each in found]) for end in (-1, 0)]
            lines.append([f"`{network}`", f"`{rule}`", top1, diverged(mine), *ends])
    return markdown(head, lines)


STUDY = Study(
    "direct_rules",
    __doc__,
    [(table, Place("direct_rules", "docs/results.md"))],
    FIELDS,
    cases,
    measure,
    flags={
        "networks": {"nargs": "+", "default": NETWORKS, "choices": NETWORKS},
        "steps": {"type": int, "default": 310},
        "seeds": {"type": int, "default": 3},
    },
)
