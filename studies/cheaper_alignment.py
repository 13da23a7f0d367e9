"""Alignment at a smaller price: a part of the batch, low precision, every k-th step, fewer slots.

    python -m studies cheaper_alignment             # train what studies/results does not hold
    python -m studies cheaper_alignment --measure   # time steps instead, on a quiet machine
    python -m studies cheaper_alignment --update    # put the table into docs/imagenet.md, too

Trains networks on the embedded images with the command line's defaults but for the flags of each
variant, seeds 0 to 2. Step costs are measured apart: all variants of a network in turn in one
process, each one's median ratio to backprop of the same round, in wall-clock time and in CPU time,
which other programs disturb less. Of ResNet-18, on synthetic images, only steps are measured.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import keras

from benchmarks.timing import clocked, interleave, summary
from studies import BASELINE, ROOT
from studies.study import Rows, Study
from studies.table import Place, read, select, spread, write
from tfcredit import analysis, rules
from tfcredit.records import markdown
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import parse
from tfcredit.training.trainer import Trainer

COSTS = ROOT / "studies" / "results" / "cheaper_alignment_steps.csv"
NETWORKS = {
    "resnet8": ["--dataset=embedded", "--model=resnet8", "--width=8"],
    "resnet20": ["--dataset=embedded", "--model=resnet20", "--width=8"],
    "conv": ["--dataset=embedded", "--model=conv", "--learning_rate=0.02"],
    "resnet18": ["--dataset=synthetic", "--model=resnet18", "--batch_size=16"],
}
TRAINED = ["resnet8", "resnet20", "conv"]
FRACTION, EVERY, PRECISION = "--alignment_fraction", "--alignment_every", "--alignment_precision"
OPTIMIZER, ADAMS_RATE = "--feedback_optimizer", "--feedback_learning_rate=0.001"
OTHER_RULES = "activation_alignment", "weight_mirror"


def faster(factor: int, rule: str = "info_alignment") -> str:
    """The flag for a multiple of the rule's own rate of B's optimizer."""
    return f"--feedback_learning_rate={factor * rules.get(rule).feedback_optimizer[1]}"


def lars(rate: float) -> list[str]:
    """The flags for LARS as B's optimizer, which keeps one tensor for each B."""
    return [f"{OPTIMIZER}=lars", f"--feedback_learning_rate={rate}"]


# Name -> flags; the rule is info_alignment unless they say another.
VARIANTS = {
    BASELINE: [f"--rule={BASELINE}"],
    "exact": [],
    **{f"fraction 1/{k}": [f"{FRACTION}={1 / k}"] for k in (2, 4, 8, 16)},
    "bfloat16": [f"{PRECISION}=bfloat16"],
    **{f"every {k}": [f"{EVERY}={k}"] for k in (2, 4, 8)},
    **{f"every {k}, rate x {k}": [f"{EVERY}={k}", faster(k)] for k in (4, 8)},
    "fraction 1/8, bfloat16": [f"{FRACTION}=0.125", f"{PRECISION}=bfloat16"],
    "fraction 1/16, every 2, rate x 2": [f"{FRACTION}=0.0625", f"{EVERY}=2", faster(2)],
    "RMSprop": [f"{OPTIMIZER}=rmsprop"],
    "LARS": lars(3e-3),
    # R of the mirror has its minimum at a B many times as long, and LARS steps in proportion to B.
    "weight_mirror, LARS": ["--rule=weight_mirror", *lars(3e-4)],
    "activation_alignment, Adam": ["--rule=activation_alignment", f"{OPTIMIZER}=adam", ADAMS_RATE],
    **{
        f"{rule}, {name}": [f"--rule={rule}", *flags]
        for rule in OTHER_RULES
        for name, flags in {
            "exact": [],
            "fraction 1/8": [f"{FRACTION}=0.125"],
            "fraction 1/16": [f"{FRACTION}=0.0625"],
            "fraction 1/16, every 2, rate x 2": [
                f"{FRACTION}=0.0625",
                f"{EVERY}=2",
                faster(2, rule),
            ],
            "RMSprop": [f"{OPTIMIZER}=rmsprop", ADAMS_RATE],
        }.items()
    },
}
BACKPROP = {"backprop": ["--rule=backprop"]}
FIELDS = ["network", "variant", "seed", "steps", "top1", "loss", "mean_angle", "seconds"]
COST_FIELDS = ["network", "variant", "wall", "cpu", "rounds"]


def make(network: str, flags: list[str], seed: int, steps: int):
    """The trainer of a run, its images and its batch size."""
    given = parse([*NETWORKS[network], *flags, f"--seed={seed}", f"--steps={steps}"])[0]
    plan = Plan.of(given)
    keras.utils.set_random_seed(seed)
    model = plan.network()
    model.compile(plan.optimizer())
    trainer = Trainer(model, alignment_every=plan.recipe.alignment_every)
    return trainer, plan.images, plan.recipe.batch_size


def train(network: str, variant: str, seed: int, steps: int) -> dict:
    """One run; returns its row."""
    started = time.process_time()
    trainer, images, batch = make(network, VARIANTS[variant], seed, steps)
    per_epoch, done = images.steps_per_epoch(batch), 0
    while done < steps:
        count = min(per_epoch, steps - done)
        trainer.run(iter(images.train(batch, seed, done // per_epoch)), count, first=done)
        done += count
    results = trainer.evaluate(images.evaluation(500))
    kept = analysis.feedback_layers(trainer.network)
    angles = [record["angle"] for record in analysis.alignment(trainer.network)] if kept else []
    row = {"network": network, "variant": variant, "seed": seed, "steps": steps}
    row |= {"top1": results["top1"], "loss": results["loss"]}
    row |= {"mean_angle": statistics.mean(angles) if angles else ""}
    keras.backend.clear_session()
    return row | {"seconds": round(time.process_time() - started, 1)}


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Every network with every variant, seed by seed; none where steps are measured instead."""
    trained = [name for name in flags.networks if name in TRAINED and not flags.measure]
    for seed in range(flags.seeds):
        for network in trained:
            for variant in flags.variants:
                yield {"network": network, "variant": variant, "seed": seed, "steps": flags.steps}


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [train(**case)]


def costs(network: str, variants: Sequence[str], rounds: int, turn: int) -> list[dict]:
    """Each variant's time of `turn` steps over backprop's: the medians of the rounds."""
    turns = {}
    for name, flags in (BACKPROP | {name: VARIANTS[name] for name in variants}).items():
        trainer, images, batch = make(network, flags, 0, turn)
        batches = iter(images.train(batch, 0, 0).take(1).cache().repeat())
        turns[name] = clocked(trainer.run, batches, turn)
    seconds = interleave(turns, rounds)

    def ratio(name: str, clock: int) -> str:
        mine, base = ([both[clock] for both in seconds[one]] for one in (name, "backprop"))
        return f"{summary(mine, base)['ratio']:.2f}"

    return [
        {"network": network, "variant": name, "wall": ratio(name, 0), "cpu": ratio(name, 1)}
        | {"rounds": rounds}
        for name in variants
    ]


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Times steps, if that is asked for."""
    for network in flags.networks if flags.measure else ():
        fresh = costs(network, flags.variants, flags.rounds, flags.turn)
        known = {(row["network"], row["variant"]) for row in fresh}
        kept = [row for row in read(COSTS) if (row["network"], row["variant"]) not in known]
        write(COSTS, COST_FIELDS, kept + fresh)


def table(rows: Rows) -> str:
    """Mean and half range over the seeds, and the costs, as Markdown."""
    head = ["network", "alignment", "top-1, %", "mean angle", "step / backprop: wall", "CPU"]
    lines = []
    for network in NETWORKS:
        for variant in VARIANTS:
            mine = select(rows, network=network, variant=variant)
            cost = select(read(COSTS), network=network, variant=variant)
            if mine or cost:
                top1 = spread([100 * float(row["top1"]) for row in mine])
                angle = spread([float(row["mean_angle"]) for row in mine if row["mean_angle"]])
                wall, cpu = (cost[0]["wall"], cost[0]["cpu"]) if cost else "--"
                lines.append([f"`{network}`", variant, top1, angle, wall, cpu])
    return markdown(head, lines)


def paired(rows: Rows) -> str:
    """A sixteenth of the batch less exact R: mean over the seeds and its standard error."""
    head = ["rule"] + [f"{network}, {what}" for network in TRAINED for what in ("top-1", "angle")]
    lines = []
    for rule in ("info_alignment", *OTHER_RULES):
        prefix = f"{rule}, " if rule in OTHER_RULES else ""
        cells = []
        for network in TRAINED:
            exact, part = (
                {row["seed"]: row for row in select(rows, network=network, variant=prefix + name)}
                for name in ("exact", "fraction 1/16")
            )
            both = sorted(exact.keys() & part.keys())
            for name, factor in (("top1", 100), ("mean_angle", 1)):
                apart = [factor * (float(part[s][name]) - float(exact[s][name])) for s in both]
                cells.append(_mean_and_error(apart))
        lines.append([f"`{rule}`", *cells])
    return markdown(head, lines)


def _mean_and_error(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "-"
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.1f} +- {error:.1f} (n = {len(values)})"


STUDY = Study(
    "cheaper_alignment",
    __doc__,
    [
        (table, Place("cheaper_alignment", "docs/imagenet.md")),
        (paired, Place("cheaper_alignment_paired", "docs/imagenet.md")),
    ],
    FIELDS,
    cases,
    measure,
    finish,
    flags={
        "networks": {"nargs": "+", "default": TRAINED, "choices": NETWORKS},
        "variants": {"nargs": "+", "default": list(VARIANTS), "choices": VARIANTS},
        "steps": {"type": int, "default": 470},
        "seeds": {"type": int, "default": 3},
        "measure": {"action": "store_true", "help": "time steps anew, train nothing"},
        "rounds": {"type": int, "default": 9, "help": "of --measure"},
        "turn": {"type": int, "default": 8, "help": "steps of a variant in a round"},
    },
)
