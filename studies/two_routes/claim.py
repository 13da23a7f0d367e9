"""A claim, and the statistics that its verdict rests on."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from studies import table
from studies.table import select
from studies.two_routes.scales import Scale
from studies.two_routes.trials import Measure, Table, Trial, accuracy
from tfcredit.analysis import Interval, interval

Rows = Callable[[str], Sequence[dict]]
HOLDS, FAILS, OPEN = "holds", "does not hold", "can't be told here"


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """Verdict on the rows of a study.

    Attributes:
        verdict: `HOLDS`, `FAILS` or `OPEN`.
        text: What was measured and why the verdict follows.
        table: The numbers as Markdown.
    """

    verdict: str
    text: str
    table: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim and the study that tests it.

    Attributes:
        name: Of the study, as the command takes it, and of its files.
        sentence: The claim.
        trials: The runs of a scale; may look at the rows of another study by its name.
        conclude: From rows to a verdict.
        draw: A figure of the rows; a matplotlib figure.
        measure: More columns of a row; `None` for none.
    """

    name: str
    sentence: str
    trials: Callable[[Scale, Rows], list[Trial]]
    conclude: Callable[[Sequence[dict], Scale], Conclusion]
    draw: Callable[[Sequence[dict], Scale], object]
    measure: Measure | None = None

    def asked(self, scale: Scale, results: pathlib.Path) -> list[Trial]:
        """The runs of a scale that the results so far ask for; a search asks for more by and by."""
        return self.trials(scale, lambda name: Table(name, scale.name, results).rows)


def accuracies(rows: Sequence[dict], scale: Scale, column: str = "top1", **wanted) -> Interval:
    """Top-1 in per cent over the runs with these values."""
    return interval([accuracy(row, scale, column) for row in select(rows, **wanted)])


def gaps(rows: Sequence[dict], scale: Scale, column: str = "top1", **wanted) -> list[float]:
    """Points of top-1 by which each run is below backprop's of the same network and seed.

    Args:
        rows: Of a study.
        scale: Its scale.
        column: The accuracy.
        **wanted: The rule, and other columns that both runs share.
    """
    shared = {name: value for name, value in wanted.items() if name != "rule"}
    base = {
        (row["network"], row["seed"]): accuracy(row, scale, column)
        for row in select(rows, rule="backprop", **shared)
    }
    return [
        base[row["network"], row["seed"]] - accuracy(row, scale, column)
        for row in select(rows, **wanted)
        if (row["network"], row["seed"]) in base
    ]


def differences(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The interval of paired differences, first minus second."""
    return interval(np.subtract(first, second))


def diverged(rows: Sequence[dict], **wanted) -> str:
    """Number of runs with these values that diverged, of all of them."""
    return table.diverged(select(rows, **wanted))


def angles(rows: Sequence[dict], **wanted) -> str:
    """Mean angle of W and B over the runs with these values that ended."""
    found = [float(row["mean_angle"]) for row in select(rows, **wanted) if row["mean_angle"]]
    return f"{np.mean(found):.1f}" if found else "-"
