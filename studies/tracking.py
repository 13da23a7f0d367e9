"""Local rules that track W beside backprop: seven networks, three learning rates, noisy updates.

    python -m studies tracking

Trains every network under every rule's defaults by plain `compile` and `fit`: one optimizer for all
variables (SGD with Nesterov's momentum 0.9 at 0.05; Adam at 0.001 for the transformer), warm-up
over a twentieth of the steps and cosine decay, batch 128, no augmentation. `rate` multiplies these
learning rates. A gap is that of two runs of the same network, rate and seed. Runs that the output
file holds are not repeated.
"""

import argparse
from collections.abc import Iterator

import keras
import numpy as np

from benchmarks.vision_transformer import vision_transformer
from studies import BASELINE, local_rules, runs
from studies.study import Rows, Study, grid
from studies.table import Place, select
from tfcredit import convert, data, models
from tfcredit.analysis import Interval, interval
from tfcredit.optimizers import NoisyOptimizer
from tfcredit.records import markdown

NETWORKS = {
    **local_rules.NETWORKS,
    "resnet56": ("resnet56", {"width": 8}),
    "vit": None,
    "resnet8, noisy updates": ("resnet8", {"width": 8}),
}
RULES = ["backprop", BASELINE, "tracking_mirror", "tracking_activation", "calibrated_mirror"]
RATES = [1.0, 0.5, 2.0]
NOISE_VARIANCE = 0.1
FIELDS = ["network", "rule", "rate", "seed", "steps", "top1", "loss", "mean_angle", "finite"]
FIELDS += ["seconds"]


def make(network: str, rule: str, rate: float, seed: int, steps: int) -> keras.Model:
    """A compiled network."""
    keras.utils.set_random_seed(seed)
    if NETWORKS[network] is None:
        model = vision_transformer()
        if rule != "backprop":
            model = convert.to_feedback(model, rule, seed=seed)
    else:
        name, options = NETWORKS[network]
        shape = data.get("embedded").input_shape
        model = models.get(name, classes=10, input_shape=shape, rule=rule, seed=seed, **options)
    warmup = steps // 20
    largest = rate * (1e-3 if network == "vit" else 0.05)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=largest, warmup_steps=warmup
    )
    if network == "vit":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    if network.endswith("noisy updates"):
        optimizer = NoisyOptimizer(optimizer, variance=NOISE_VARIANCE, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network under every rule, learning rate by learning rate, seed by seed."""
    seeds, steps = range(flags.seeds), [flags.steps]
    return grid(rate=flags.rates, seed=seeds, network=flags.networks, rule=flags.rules, steps=steps)


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    keras.backend.clear_session()
    model = make(**case)
    return [case | runs.train(model, case["seed"], case["steps"])]


def gaps(rows: Rows, **wanted) -> list[float]:
    """Points of top-1 below backprop's, run by run."""
    rule = wanted.pop("rule")
    names = ("network", "rate", "seed", "steps")
    base = {tuple(row[n] for n in names): row for row in select(rows, rule="backprop", **wanted)}
    return [
        100 * (float(base[key]["top1"]) - float(row["top1"]))
        for row in select(rows, rule=rule, **wanted)
        if (key := tuple(row[n] for n in names)) in base
    ]


def over_networks(rows: Rows, rule: str, rate: float) -> Interval:
    """The mean gap over the networks that have been run: each seed's mean is one value."""
    by_network = [_by_seed(rows, network, rule, rate) for network in NETWORKS]
    by_network = [found for found in by_network if found]
    seeds = set.intersection(*map(set, by_network)) if by_network else set()
    return interval([float(np.mean([each[seed] for each in by_network])) for seed in sorted(seeds)])


def _by_seed(rows: Rows, network: str, rule: str, rate: float) -> dict[str, float]:
    """The gap of each seed that has one."""
    chosen = select(rows, network=network, rate=rate)
    found = {seed: gaps(select(chosen, seed=seed), rule=rule) for seed in _seeds(chosen)}
    return {seed: of_seed[0] for seed, of_seed in found.items() if of_seed}


def _seeds(rows: Rows) -> list[str]:
    return sorted({row["seed"] for row in rows})


def table(rows: Rows) -> str:
    """Gaps of each rule, per network and over all, as Markdown."""
    head = ["network", "rate", "backprop, %", *(f"`{rule}`" for rule in RULES[1:])]
    lines = []
    for network in NETWORKS:
        for rate in RATES:
            mine = select(rows, network=network, rate=rate)
            if not mine:
                continue
            base = [100 * float(row["top1"]) for row in select(mine, rule="backprop")]
            cells = [_cell(mine, network, rule, rate) for rule in RULES[1:]]
            lines.append([network, rate, str(interval(base)), *cells])
    for rate in RATES:
        means = [over_networks(rows, rule, rate) for rule in RULES[1:]]
        told = [f"{each} (n = {each.n})" if each.n else "-" for each in means]
        if any(each.n for each in means):
            lines.append(["mean of these", rate, "", *told])
    return markdown(head, lines)


def _cell(rows: Rows, network: str, rule: str, rate: float) -> str:
    """Gap, angle and number of runs that diverged."""
    mine = select(rows, rule=rule)
    if not mine:
        return "-"
    angles = [float(row["mean_angle"]) for row in mine if row["mean_angle"]]
    angle = f", {np.mean(angles):.1f}°" if angles else ""
    bad = sum(row["finite"] != "True" for row in mine)
    told = f", {bad} of {len(mine)} diverged" if bad else ""
    gap = interval(gaps(rows, network=network, rule=rule, rate=rate))
    return f"{gap}{angle}{told}"


STUDY = Study(
    "tracking",
    __doc__,
    [(table, Place("tracking", "docs/tracking.md"))],
    FIELDS,
    cases,
    measure,
    flags={
        "networks": {"nargs": "+", "default": list(NETWORKS), "choices": NETWORKS},
        "rules": {"nargs": "+", "default": RULES, "choices": RULES},
        "rates": {"nargs": "+", "type": float, "default": RATES},
        "steps": {"type": int, "default": 930},
        "seeds": {"type": int, "default": 5},
    },
)
