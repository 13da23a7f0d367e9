"""The parts of the benchmark: each gives tables."""

import dataclasses
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.cases import (
    DENSE_BAR,
    FLATNESS_BAR,
    HEADLINE,
    LARGE_BATCH,
    LARGE_BATCH_BARS,
    MEMORY_BAR,
    PLAIN,
    STEP_BARS,
    TRACING_BAR,
)
from benchmarks.report import BAR, LOAD, RATIO, VERDICT, Table, judge
from benchmarks.timing import quartiles
from tfcredit import rules

STEP_COLUMNS = [
    ("rule", "rule", "name"),
    ("ms a step", "seconds", "ms"),
    RATIO,
    ("FLOP bound", "bound", "ratio"),
    BAR,
    VERDICT,
    LOAD,
]
NETWORKS = {
    "resnet18@224": (16, 1),
    "resnet50v2@224": (8, 1),
    "resnet20@32": (64, 2),
    "fc@28": (128, 50),
    "vit@28": (64, 5),
}
"""Network -> its batch, and calls per turn."""
MODES, PRECISIONS = ("graph", "xla"), ("float32", "bfloat16")
QUICK = {"network": "conv@16", "batch": 4}
TOGETHER = 6
"""Rules that share a process with the baseline: their networks have to fit into memory."""
SMALL = {"network": "resnet20@32", "batch": 64}
SERIES = {
    "batch": [[HEADLINE | {"batch": batch} for batch in (1, 2, 4, 8, 16, 32, 64)]],
    "depth": [
        [{"network": f"resnet{depth}@224", "batch": 4} for depth in (18, 34, 50, 101, 152)],
    ],
    "width": [[SMALL | {"width": width} for width in (8, 16, 32, 64)]],
    "replicas": [
        [network | {"replicas": replicas} for replicas in (1, 2, 4)]
        for network in (HEADLINE | {"batch": 8}, SMALL | {"batch": 16})
    ],
    "steps": [[{"network": "fc@28", "batch": 128, "steps": steps} for steps in (1, 10)]],
}
"""What grows -> the settings that it makes, network by network. Batches are those of a replica."""
FOLLOWED = ["feedback_alignment", "info_alignment"]
"""Rules whose growth is judged: all they cost grows with the batch or with the kernels."""
METHODS = ["backprop", "fa", "usf", "brsf"]
"""What BioTorch calls its methods; the first is PyTorch's own backprop."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        quick: Whether tiny networks and a round or two are enough, to see that all works.
        rounds: How often each competitor has its turn.
        call: Runs a function of `benchmarks.measures`: `benchmarks.worker.call`.
        torch_python: An interpreter that has PyTorch.
        networks: Of `NETWORKS`, those of the part `steps`.
        modes: Likewise, "graph" and "xla".
        precisions: Likewise, of those that the CPU has.
        series: Of `SERIES`, those of the part `growth`.
    """

    quick: bool
    rounds: int
    call: Callable[..., Any]
    torch_python: str = sys.executable
    networks: Sequence[str] = tuple(NETWORKS)
    modes: Sequence[str] = MODES
    precisions: Sequence[str] = PRECISIONS
    series: Sequence[str] = tuple(SERIES)

    def steps(
        self, setting: dict, names: Sequence[str], calls: int, bars: dict[str, float]
    ) -> list[dict]:
        """Rows of `measures.step_times`, judged; a few rules to a process."""
        rows = []
        for start in range(0, len(names), TOGETHER):
            chosen = names[start : start + TOGETHER]
            found = self.call(
                "step_times", setting=setting, rules=chosen, rounds=self.rounds, calls=calls
            )
            rows += found[1:] if rows else found
        return [judge(row, row["ratio"], bars.get(row["rule"])) for row in rows]


def bars(plan: Plan) -> Iterator[Table]:
    """Step time of the rules that have bars, on ResNet-18."""
    if plan.quick:
        yield _steps_table(plan, "bars", QUICK, FOLLOWED, 1, {})
        return
    names = [*STEP_BARS, *LARGE_BATCH_BARS]
    yield _steps_table(plan, "bars", HEADLINE, names, 1, STEP_BARS)
    setting = HEADLINE | {"batch": LARGE_BATCH}
    yield _steps_table(plan, "bars", setting, list(LARGE_BATCH_BARS), 1, LARGE_BATCH_BARS)


def others(plan: Plan) -> Iterator[Table]:
    """Step time of all other rules, on the same network."""
    if plan.quick:
        yield _steps_table(plan, "others", QUICK, ["usf"], 1, {})
        return
    yield _steps_table(plan, "others", HEADLINE, other_rules(), 1, {})


def other_rules() -> list[str]:
    """The rules that have no bars, as `--rule` takes them."""
    # "alignment" is any sum, and node perturbation takes no batch norm.
    left_out = {*STEP_BARS, *LARGE_BATCH_BARS, "alignment", "node_perturbation"}
    # Steps are timed, not the phase of mirror batches before the first one.
    special = {"akrout_mirror": "akrout_mirror(first_steps=0)"}
    return [special.get(name, name) for name in rules.names() if name not in left_out]


def steps(plan: Plan) -> Iterator[Table]:
    """Step time of each network, in graph mode and by XLA, in both precisions."""
    if plan.quick:
        yield _steps_table(plan, "steps", QUICK | {"mode": "xla"}, FOLLOWED, 1, {})
        return
    precisions = plan.precisions
    if not plan.call("surroundings")["bfloat16"]:
        precisions = [precision for precision in precisions if precision != "bfloat16"]
    for mode, network, precision in itertools.product(plan.modes, plan.networks, precisions):
        batch, calls = NETWORKS[network]
        setting = {"network": network, "batch": batch, "precision": precision, "mode": mode}
        if setting != HEADLINE:
            names = [*STEP_BARS, *LARGE_BATCH_BARS]
            yield _steps_table(plan, "steps", setting, names, calls, {})


def _steps_table(
    plan: Plan, part: str, setting: dict, names: Sequence[str], calls: int, bars: dict[str, float]
) -> Table:
    note = "The FLOP bound is the ratio if products were all that costs; a bar is for the ratio."
    rows = plan.steps(setting, names, calls, bars)
    return Table(part, _title(setting), note, STEP_COLUMNS, rows)


def _title(setting: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in setting.items())


def footprints(plan: Plan) -> Iterator[Table]:
    """Peak memory and the start of processes that have one training each."""
    all_rules = [*STEP_BARS, *LARGE_BATCH_BARS]
    cases = [
        (HEADLINE, all_rules),
        ({"network": "resnet50v2@224", "batch": 8}, all_rules),
        (HEADLINE | {"mode": "xla"}, [*FOLLOWED, "calibrated_activation"]),
        ({"network": "fc@28", "batch": 128}, all_rules),
    ]
    if plan.quick:
        cases = [(QUICK, FOLLOWED)]
    for setting, names in cases:
        found = {rule: [] for rule in [PLAIN, *names]}
        for _ in range(1 if plan.quick else 3):
            for rule, results in found.items():
                results.append(plan.call("footprint", setting=setting, rule=rule, steps=3))
        if setting.get("mode") != "xla":  # whose peak is the compiler's
            yield _memory(setting, found)
        yield _first_step(setting, found)


def _memory(setting: dict, found: dict[str, list[dict]]) -> Table:
    columns = [
        ("rule", "rule", "name"),
        ("peak, MB", "peak", "MB"),
        ("feedback kernels and slots, MB", "feedback", "MB"),
        ("ratio of the rest", "ratio", "ratio"),
        BAR,
        VERDICT,
        ("tensors at their peak, MB", "tensors", "MB"),
        ("ratio of the rest", "tensors_ratio", "ratio"),
        LOAD,
    ]
    note = (
        "The process's resident memory, and what TensorFlow had allocated for tensors of more than "
        "256 kB, each at its peak: medians of processes that take turns. The rest is without the "
        "feedback kernels and their slots, its ratio to the baseline's."
    )
    rows = []
    for rule, results in found.items():
        row = _medians(setting, rule, results, ("peak", "tensors", "variables", "load"))
        baseline = rows[0] if rows else row
        row["feedback"] = row["variables"] - baseline["variables"]
        row["ratio"] = (row["peak"] - row["feedback"]) / baseline["peak"]
        row["tensors_ratio"] = (row["tensors"] - row["feedback"]) / max(1, baseline["tensors"])
        rows.append(judge(row, row["ratio"], None if rule == PLAIN else MEMORY_BAR))
    return Table("footprints", f"memory; {_title(setting)}", note, columns, rows)


def _first_step(setting: dict, found: dict[str, list[dict]]) -> Table:
    columns = [
        ("rule", "rule", "name"),
        ("to build, s", "build", "seconds"),
        ("first step, s", "first", "seconds"),
        ("later step, s", "later", "seconds"),
        ("ratio of first less later (quartiles)", "ratio", "spread"),
        BAR,
        VERDICT,
        LOAD,
    ]
    note = "Medians over the same processes. First less later is tracing and compiling."
    rows = []
    for rule, results in found.items():
        row = _medians(setting, rule, results, ("build", "first", "later", "load"))
        ratios = [
            (a["first"] - a["later"]) / (b["first"] - b["later"])
            for a, b in zip(results, found[PLAIN], strict=True)
        ]
        row["ratio_low"], row["ratio"], row["ratio_high"] = quartiles(ratios)
        rows.append(judge(row, row["ratio"], None if rule == PLAIN else TRACING_BAR))
    return Table("footprints", f"first step; {_title(setting)}", note, columns, rows)


def _medians(setting: dict, rule: str, results: list[dict], keys: Sequence[str]) -> dict:
    """A row of the medians over processes."""
    medians = {key: statistics.median(result[key] for result in results) for key in keys}
    return setting | {"rule": rule} | medians


def growth(plan: Plan) -> Iterator[Table]:
    """Ratios as batch, depth, width, replicas and the steps per execution grow."""
    if plan.quick:
        yield from _grown(plan, "batch", [QUICK | {"batch": batch} for batch in (2, 4)], FOLLOWED)
        return
    for grown in plan.series:
        for settings in SERIES[grown]:
            yield from _grown(plan, grown, settings, [*FOLLOWED, "calibrated_activation"])


def _grown(
    plan: Plan, grown: str, settings: Sequence[dict], names: Sequence[str]
) -> Iterator[Table]:
    """A series: its steps, and whether their ratios are flat."""
    rows = []
    for setting in settings:
        calls = NETWORKS.get(setting["network"], (0, 1))[1]
        calls = max(1, calls // setting.get("steps", 1))
        rows += plan.steps(setting, names, calls, {})
    varied = "network" if grown == "depth" else grown
    columns = [(grown, varied, "text"), *STEP_COLUMNS]
    if grown == "steps":
        for row in rows:
            bar = DENSE_BAR if row["steps"] == 10 and row["rule"] != PLAIN else None
            over = row["ratio"] / (row["bound"] or 1.0)
            row.update(judge(row, over, bar))
    title = f"{grown}; {_title({k: v for k, v in settings[0].items() if k != varied})}"
    yield Table("growth", title, "As in `steps`.", columns, rows)
    if grown in ("batch", "depth", "replicas"):
        yield _flatness(title, names, rows)


def _flatness(series: str, names: Sequence[str], rows: Sequence[dict]) -> Table:
    """Whether the ratios of a series are flat."""
    judged = []
    for rule in names:
        ratios = [row["ratio"] for row in rows if row["rule"] == rule]
        row = {"rule": rule, "least": min(ratios), "largest": max(ratios)}
        row["ratio"] = row["largest"] / row["least"]
        judged.append(judge(row, row["ratio"], FLATNESS_BAR if rule in FOLLOWED else None))
    columns = [
        ("rule", "rule", "name"),
        ("least ratio", "least", "ratio"),
        ("largest ratio", "largest", "ratio"),
        ("largest / least", "ratio", "ratio"),
        BAR,
        VERDICT,
    ]
    note = "Rules that draw noise cost per step, not per image, and are not judged."
    return Table("growth", f"flatness in {series}", note, columns, judged)


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
    yield Table("checkpoints", _title(setting), note, columns, rows)


def peers(plan: Plan) -> Iterator[Table]:
    """Steps of PyTorch's ResNet-18 by BioTorch's methods, in turn with ours."""
    setting = {"network": "resnet18@32", "batch": 2} if plan.quick else HEADLINE
    if subprocess.run([plan.torch_python, "-c", "import torch"], capture_output=True).returncode:
        note = f"Left out: {plan.torch_python} has no PyTorch; name one by --torch_python."
        yield Table("peers", _title(setting), note, [], [])
        return
    rows = plan.call(
        "peer_times",
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
    yield Table("peers", _title(setting), note, columns, rows)


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
    for part in (bars, others, steps, footprints, growth, checkpoints, inputs, peers)
}
"""Name -> part, in the order in which they run."""
