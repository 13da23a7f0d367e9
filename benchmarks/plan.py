"""The plan that all parts of the benchmark share: how much they measure, and tables of steps."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.budgets import HEADLINE
from benchmarks.report import BUDGET, LOAD, RATIO, VERDICT, Table, judge, title

STEP_COLUMNS = [
    ("rule", "rule", "name"),
    ("ms a step", "seconds", "ms"),
    RATIO,
    ("FLOP bound", "bound", "ratio"),
    BUDGET,
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
"""Quantity that grows -> its settings, network by network. Batches are those of a replica."""
FOLLOWED = ["feedback_alignment", "info_alignment"]
"""Rules whose growth is judged: all they cost grows with the batch or with the kernels."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Amount of measurements.

    Attributes:
        quick: True for tiny networks and a round or two, to see that all works.
        rounds: How often each competitor has its turn.
        call: Runs a function of `benchmarks.measures`: `benchmarks.worker.call`.
        torch_python: An interpreter that has PyTorch.
        networks: Of `NETWORKS`, those of the parts `steps` and `budgets`.
        modes: Those of the part `steps`, "graph" and "xla".
        precisions: Likewise, of those that the CPU has.
        series: Of `SERIES`, those of the part `growth`.
        rules: Of the rules of each part, those that are measured; all where it names none.
        against: A checkout of another revision that the part `budgets` compares this one with, in
            place of comparing rules with plain Keras; `None` for none.
    """

    quick: bool
    rounds: int
    call: Callable[..., Any]
    torch_python: str = sys.executable
    networks: Sequence[str] = tuple(NETWORKS)
    modes: Sequence[str] = MODES
    precisions: Sequence[str] = PRECISIONS
    series: Sequence[str] = tuple(SERIES)
    rules: Sequence[str] = ()
    against: Path | None = None

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Of a part's rules those that are measured."""
        return [name for name in names if not self.rules or name in self.rules]

    def steps(
        self,
        setting: dict,
        names: Sequence[str],
        calls: int = 1,
        budgets: Mapping[str, float | None] | None = None,
    ) -> list[dict]:
        """Rows of `measures.step_times`, judged; a few rules to a process.

        Args:
            setting: Arguments of `Case`, the rule apart.
            names: The rules.
            calls: Calls of the compiled function per turn.
            budgets: Rule -> largest ratio; `None` for no budgets.

        Returns:
            A row for the baseline and for each rule.
        """
        rows, budgets = [], budgets or {}
        for start in range(0, len(names), TOGETHER):
            chosen = names[start : start + TOGETHER]
            found = self.call(
                "step_times", setting=setting, rules=chosen, rounds=self.rounds, calls=calls
            )
            rows += found[1:] if rows else found
        return [judge(row, row["ratio"], budgets.get(row["rule"])) for row in rows]

    def steps_table(
        self,
        part: str,
        setting: dict,
        names: Sequence[str],
        calls: int = 1,
        budgets: Mapping[str, float | None] | None = None,
    ) -> Table:
        """The rows of `steps` as a table of a part."""
        note = (
            "The FLOP bound is the ratio if products were all that costs; a budget is for the "
            "ratio."
        )
        rows = self.steps(setting, names, calls, budgets)
        return Table(part, title(setting), note, STEP_COLUMNS, rows)
