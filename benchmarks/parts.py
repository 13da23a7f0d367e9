"""The parts of the benchmark: each gives tables."""

import itertools
import subprocess
from collections.abc import Iterator

from benchmarks import revisions
from benchmarks.budgets import HEADLINE, OTHER_STEP_BUDGETS, RULES, STEP_BUDGETS
from benchmarks.footprints import footprints
from benchmarks.growth import growth
from benchmarks.plan import FOLLOWED, NETWORKS, QUICK, SMALL, Plan
from benchmarks.report import LOAD, RATIO, Table, title
from tfcredit import rules
from tfcredit.rules.network import DirectRule

METHODS = ["backprop", "fa", "usf", "brsf"]
"""BioTorch's names of its methods; the first is PyTorch's own backprop."""


def budgets(plan: Plan) -> Iterator[Table]:
    """Step time of the rules that have budgets; or against another revision's."""
    if plan.against is not None:
        yield revisions.compared(plan, plan.against)
        return
    if plan.quick:
        yield plan.steps_table("budgets", QUICK, FOLLOWED)
        return
    headline = {rule: STEP_BUDGETS.get(rule) for rule in RULES}
    for setting, most in [(HEADLINE, headline), *OTHER_STEP_BUDGETS]:
        names = plan.chosen(most)
        if names and setting["network"] in plan.networks:
            calls = NETWORKS[setting["network"]][1]
            yield plan.steps_table("budgets", setting, names, calls, budgets=most)


def others(plan: Plan) -> Iterator[Table]:
    """Step time of all other rules, on the same network but for those of direct feedback."""
    if plan.quick:
        yield plan.steps_table("others", QUICK, ["usf"])
        return
    # A kernel of direct feedback has a number for each class and each number of an activity: 11 GB
    # on ResNet-18 at 224 pixels.
    names = plan.chosen(other_rules())
    direct = [name for name in names if isinstance(rules.get(name), DirectRule)]
    rest = [name for name in names if name not in direct]
    for setting, chosen in [(HEADLINE, rest), (SMALL, direct)]:
        if chosen:
            yield plan.steps_table("others", setting, chosen)


def other_rules() -> list[str]:
    """The rules that have no budgets, as `--rule` takes them."""
    # "alignment" is any sum, and node perturbation takes no batch norm.
    left_out = {*RULES, "alignment", "node_perturbation"}
    # Steps are timed, not the phase of mirror batches before the first one.
    special = {"akrout_mirror": "akrout_mirror(first_steps=0)"}
    return [special.get(name, name) for name in rules.names() if name not in left_out]


def steps(plan: Plan) -> Iterator[Table]:
    """Step time of each network, in graph mode and by XLA, in both precisions."""
    if plan.quick:
        yield plan.steps_table("steps", QUICK | {"mode": "xla"}, FOLLOWED)
        return
    precisions = plan.precisions
    if not plan.call("surroundings")["bfloat16"]:
        precisions = [precision for precision in precisions if precision != "bfloat16"]
    for mode, network, precision in itertools.product(plan.modes, plan.networks, precisions):
        batch, calls = NETWORKS[network]
        setting = {"network": network, "batch": batch, "precision": precision, "mode": mode}
        if setting != HEADLINE:
            yield plan.steps_table("steps", setting, plan.chosen(RULES), calls)


def checkpoints(plan: Plan) -> Iterator[Table]:
    """Time to save and to restore all state."""
    setting = QUICK if plan.quick else HEADLINE | {"batch": 1}
    rows = plan.call("checkpoint_times", setting=setting, rules=FOLLOWED, rounds=plan.rounds)
    columns = [
        ("rule", "rule", "name"),
        ("state, MB", "variables", "MB"),
        ("on disk, MB", "disk", "MB"),
        ("save, ms", "save_seconds", "ms"),
        ("ratio (quartiles)", "save_ratio", "spread"),
        ("restore, ms", "restore_seconds", "ms"),
        ("ratio (quartiles)", "restore_ratio", "spread"),
        LOAD,
    ]
    note = "The time to beat is the ratio of the sizes."
    yield Table("checkpoints", title(setting), note, columns, rows)


def baselines(plan: Plan) -> Iterator[Table]:
    """Steps of PyTorch's ResNet-18 by BioTorch's methods, in turn with ours."""
    setting = {"network": "resnet18@32", "batch": 2} if plan.quick else HEADLINE
    if subprocess.run([plan.torch_python, "-c", "import torch"], capture_output=True).returncode:
        note = f"Left out: {plan.torch_python} has no PyTorch; name one by --torch_python."
        yield Table("baselines", title(setting), note, [], [])
        return
    rows = plan.call(
        "baseline_times",
        setting=setting,
        rules=["feedback_alignment", "usf", "brsf"],
        methods=METHODS,
        python=plan.torch_python,
        rounds=plan.rounds,
    )
    columns = [
        ("framework", "framework", "text"),
        ("versions", "versions", "text"),
        ("rule", "rule", "name"),
        ("images/s", "images_per_second", "number"),
        ("ratio to its own backprop (quartiles)", "ratio", "spread"),
        LOAD,
    ]
    note = "Two processes in turn; the one that waits is idle."
    yield Table("baselines", title(setting), note, columns, rows)


def sequences(plan: Plan) -> Iterator[Table]:
    """Step time of recurrent layers, beside Keras' layers without cuDNN's fused kernel."""
    kinds, sizes = ["LSTM", "GRU", "SimpleRNN"], [(64, 28, 28, 64), (256, 50, 64, 32)]
    rules, modes = ["feedback_alignment", "calibrated_mirror", "tracking_mirror"], plan.modes
    rules += ["symmetric_alignment", "info_alignment"]
    if plan.quick:
        kinds, sizes, rules, modes = kinds[:1], [(4, 5, 3, 2)], FOLLOWED, ["graph"]
    for mode, size, kind in itertools.product(modes, sizes, kinds):
        names = ("units", "steps", "features", "batch")
        setting = {"layer": kind} | dict(zip(names, size, strict=True)) | {"mode": mode}
        rows = plan.call("sequence_times", setting=setting, rules=rules, rounds=plan.rounds)
        columns = [("rule", "rule", "name"), ("ms a step", "seconds", "ms"), RATIO, LOAD]
        yield Table("sequences", title(setting), "One layer, SGD.", columns, rows)


def inputs(plan: Plan) -> Iterator[Table]:
    """The input pipeline."""
    rounds, seconds = (1, 0.2) if plan.quick else (3, 10.0)
    rows = plan.call("input_speeds", seconds=seconds, rounds=rounds)
    columns = [
        ("preprocessing", "preprocessing", "text"),
        ("part", "part", "text"),
        ("images/s", "images_per_second", "number"),
        ("images/s per core", "per_core", "number"),
    ]
    yield Table("inputs", "500 x 375 JPEGs", "Median of the rounds.", columns, rows)


PARTS = {
    part.__name__: part
    for part in (
        budgets,
        others,
        steps,
        sequences,
        footprints,
        growth,
        checkpoints,
        inputs,
        baselines,
    )
}
"""Name -> part, in the order in which they run."""
RULED = ["budgets", "others", "steps", "footprints"]
"""The parts whose rules can be chosen."""
FORMER_NAMES = {"bars": "budgets", "peers": "baselines"}
"""Former name of a part -> its name."""
