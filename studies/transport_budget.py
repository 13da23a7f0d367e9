"""A transport budget: how far behind backprop is it to copy W to B now and then, or to estimate it?

    python -m studies transport_budget

Trains networks under `frozen_backprop` with several budgets, and beside it under rules that read W
or estimate it, by plain `compile` and `fit`: SGD with Nesterov's momentum 0.9 at 0.05, warm-up over
a twentieth of the steps and cosine decay, batch 128, no augmentation; kernels that follow no W have
the optimizer that the command line gives them. A gap is that of two runs of the same network and
seed. Bits are those that reach B of W, for each weight of the network: 32 for a number, 1 for a
sign; of an estimate by noise the responses of W, one for each output. Runs that the output file
holds are not repeated; the figure is drawn in any case.
"""

import argparse
import pathlib
from collections.abc import Iterator

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from studies import BASELINE, ROOT, local_rules, runs, tracking
from studies.study import Rows, Study, grid
from studies.table import Place, select
from tfcredit import analysis, rules
from tfcredit.analysis import interval, plots
from tfcredit.optimizers import PartitionedOptimizer
from tfcredit.optimizers import get as optimizer_of
from tfcredit.records import markdown
from tfcredit.rules.calibrated import CalibratedRule

NETWORKS = ["fc_tanh", "conv", "resnet8"]
BUDGETS = [f"frozen_backprop(every={every})" for every in (1, 3, 10, 30, 100, 1000)]
PARTS = [f"frozen_backprop(every={every}, fraction=0.1)" for every in (1, 3, 10, 30, 100)]
OTHERS = ["symmetric_alignment", "sign_symmetry", "calibrated_mirror", "calibrated_activation"]
OTHERS += ["tracking_mirror", "feedback_alignment", BASELINE]
RULES = ["backprop", *BUDGETS, *PARTS, *OTHERS]
FIELDS = ["network", "rule", "seed", "steps", "top1", "loss", "mean_angle", "finite", "seconds"]
FIELDS += ["transports", "bits"]
NUMBER = 32
"""Bits of a weight, and of a response to noise."""


def make(network: str, rule: str, seed: int, steps: int) -> keras.Model:
    """A compiled network."""
    model = tracking.make(network, rule, 1.0, seed, steps)
    made = rules.get(rule)
    if made.learns and not made.follows_forward:
        feedback = optimizer_of(*made.feedback_optimizer)
        optimizer = PartitionedOptimizer(forward=model.optimizer, feedback=feedback)
        model.compile(optimizer, model.loss, metrics=["accuracy"])
    return model


def transports(rule: rules.Rule, steps: int) -> float:
    """How often a weight was copied, or read to the same end."""
    if isinstance(rule, rules.FrozenBackprop):
        return rule.transports_per_weight(steps)
    return float(steps) if isinstance(rule, rules.SymmetricAlignment) else 0.0


def bits_per_weight(model: keras.Model, steps: int) -> float:
    """What has reached B of W in a training, for each weight of layers with a B."""
    layers = analysis.feedback_layers(model)
    sizes = [int(np.prod(layer.kernel.shape)) for layer in layers]
    return float(np.average([_bits(layer, steps) for layer in layers], weights=sizes))


def _bits(layer, steps: int) -> float:
    rule, axes = layer.rule, layer.connection.axes(layer.kernel.shape.as_list())
    if isinstance(rule, rules.SignSymmetry):
        return float(steps)
    if isinstance(rule, CalibratedRule):
        samples = steps * rule.samples(axes.fan_in, axes.columns)
    elif isinstance(rule, rules.TrackingMirror):
        # B is the mean of all samples so far, which errs by (fan_in - 1) / samples of |W|^2; where
        # W has grown since, these are more than those that were taken: an upper bound.
        error = float(keras.ops.convert_to_numpy(layer.rule_memory)[0])
        samples = (axes.fan_in - 1) / max(error, 1e-12)
    else:
        return NUMBER * transports(rule, steps)
    return NUMBER * samples / axes.fan_in  # A sample has as many responses as fields have outputs.


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network under every rule, seed by seed."""
    seeds = range(flags.seeds)
    return grid(seed=seeds, network=flags.networks, rule=RULES, steps=[flags.steps])


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    keras.backend.clear_session()
    model, rule, steps = make(**case), rules.get(case["rule"]), case["steps"]
    row = case | runs.train(model, case["seed"], steps) | {"transports": "", "bits": ""}
    if rule.has_feedback_kernel:
        row |= {"transports": transports(rule, steps), "bits": bits_per_weight(model, steps)}
    return [row]


def table(rows: Rows) -> str:
    """Gaps beside transports and bits, as Markdown."""
    head = ["network", "rule", "transports per weight", "bits per weight"]
    head += ["points of top-1 below backprop", "mean angle, degrees"]
    lines = []
    for network in NETWORKS:
        for rule in RULES[1:]:
            mine = select(rows, network=network, rule=rule)
            if not mine:
                continue
            moved = [_number(mine, name) for name in ("transports", "bits")]
            gap = str(interval(gaps(rows, network, rule)))
            angles = [float(row["mean_angle"]) for row in mine if row["mean_angle"]]
            angle = f"{np.mean(angles):.1f}" if angles else "-"
            lines.append([network, f"`{rule}`", *moved, gap, angle])
    return markdown(head, lines)


def gaps(rows: Rows, network: str, rule: str) -> list[float]:
    """Points of top-1 below backprop's, seed by seed."""
    of_network = select(rows, network=network)
    base = {row["seed"]: float(row["top1"]) for row in select(of_network, rule="backprop")}
    return [
        100 * (base[row["seed"]] - float(row["top1"]))
        for row in select(of_network, rule=rule)
        if row["seed"] in base
    ]


def _number(rows: Rows, name: str) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    return f"{np.mean(values):.3g}" if values else "-"


def draw(rows: Rows) -> Figure:
    """Gaps over bits, a panel for each network; rules that move none are lines."""
    networks = [name for name in NETWORKS if select(rows, network=name)]
    figure = Figure(figsize=(max(6.4, 3.6 * len(networks)), 3.8), layout="constrained")
    axes = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    for panel, network in zip(axes, networks, strict=True):
        plots.fade(panel)
        for label, names in (("every N-th step", BUDGETS), ("a tenth by turns", PARTS)):
            points = [_point(rows, network, rule) for rule in names]
            points = sorted(point for point in points if point is not None)
            if points:
                panel.plot(*zip(*points, strict=True), "o-", ms=3, label=f"copies, {label}")
        for rule, (colour, _) in zip(OTHERS, plots.looks(OTHERS), strict=True):
            point = _point(rows, network, rule)
            if point is None:
                continue
            if point[0] > 0:
                panel.plot(*point, "D", ms=5, color=colour, label=rule)
            else:
                panel.axhline(point[1], ls="--", lw=1, color=colour, label=rule)
        panel.set(xscale="log")
        panel.set_yscale("symlog", linthresh=1.0)
        panel.set_xlabel("bits per weight", color=plots.GREY)
        panel.set_title(network, color=plots.GREY)
    axes[0].set_ylabel("points of top-1 below backprop", color=plots.GREY)
    entries = axes[0].get_legend_handles_labels()
    style = {"frameon": False, "fontsize": 8, "labelcolor": plots.GREY}
    figure.legend(*entries, loc="outside lower center", ncols=3, **style)
    figure.patch.set_alpha(0.0)
    return figure


def _point(rows: Rows, network: str, rule: str) -> tuple[float, float] | None:
    mine, found = select(rows, network=network, rule=rule), gaps(rows, network, rule)
    if not found:
        return None
    return float(np.mean([float(row["bits"] or 0) for row in mine])), float(np.mean(found))


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Draws the figure, the same bytes for the same numbers."""
    if rows:
        with matplotlib.rc_context({"svg.hashsalt": "tfcredit"}):
            draw(rows).savefig(flags.figure, metadata={"Date": None})


STUDY = Study(
    "transport_budget",
    __doc__,
    [(table, Place("transport_budget", "docs/results.md"))],
    FIELDS,
    cases,
    measure,
    finish,
    flags={
        "figure": {"type": pathlib.Path, "default": ROOT / "docs" / "transport_budget.svg"},
        "networks": {"nargs": "+", "default": NETWORKS, "choices": local_rules.NETWORKS},
        "steps": {"type": int, "default": 310},
        "seeds": {"type": int, "default": 3},
    },
)
