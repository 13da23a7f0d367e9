"""The figures of a report, as SVG that takes its colour from the page."""

import io
import math
import re
from collections.abc import Callable, Sequence

from tfcredit.errors import UserError
from tfcredit.report.groups import Group
from tfcredit.report.reading import StoredRun

try:
    import matplotlib
    from matplotlib.figure import Figure

    from tfcredit.analysis import plots
except ImportError as problem:
    raise UserError("tfcredit report needs matplotlib: pip install 'tfcredit[plots]'.") from problem

LETTERS = {"o": "●", "^": "▲", "s": "■", "D": "◆", "v": "▼"}
"""Marker of a curve -> the same as a letter."""
_STYLE = {"svg.fonttype": "none", "text.parse_math": False}


def loss(groups: Sequence[Group]) -> str:
    """Cross entropy over steps; solid: test or validation, dashed: training."""
    columns = {"test_loss": "-", "validation_loss": "-", "task_loss": "--"}
    return _curves("cross entropy", groups, _rows, columns)


def top1(groups: Sequence[Group]) -> str:
    """Top-1 over steps; solid: test or validation, dashed: training."""
    columns = {"test_top1": "-", "validation_top1": "-", "top1": "--"}
    return _curves("top-1, %", groups, _rows, columns, 100.0)


def mean_angle(groups: Sequence[Group]) -> str:
    """Mean angle of W and B over steps, degrees."""
    return _curves("mean angle, degrees", groups, lambda r: r.mean_angles, {"mean_angle": "-"})


def looks(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """The colour and the marker of each group, as matplotlib takes them."""
    return plots.looks([group.rule for group in groups])


def _rows(run: StoredRun) -> list[dict]:
    return run.rows


def heat_map(records: Sequence[dict], measure: str, name: str) -> str:
    """Layer x time.

    Args:
        records: With `step`, `layer` and the measure; one at least.
        measure: "angle" or "error_angle".
        name: Of the figure, unique on its page.

    Returns:
        The SVG element.
    """
    with matplotlib.rc_context(_STYLE):
        figure = plots.heat_map(records, measure)
        for axes in figure.axes:
            for cells in axes.collections:
                cells.set_rasterized(True)  # else a path per cell
        return _svg(figure, name)


def _curves(
    title: str,
    groups: Sequence[Group],
    records: Callable[[StoredRun], list[dict]],
    columns: dict[str, str],
    scale: float = 1.0,
) -> str:
    """A line per group and column (name -> line style); empty if no run has a finite value."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 3.0), layout="constrained")
        figure.patch.set_alpha(0.0)
        panel = plots.Panel(figure.add_subplot(), title, scale)
        for group, (colour, marker) in zip(groups, looks(groups), strict=True):
            for column, line in columns.items():
                whole, diverged = [], []
                for run in group.runs:
                    rows = [row for row in records(run) if column in row]
                    curve = {row["step"]: row[column] for row in rows}
                    if curve:
                        (diverged if run.state == "diverged" else whole).append(curve)
                panel.draw(whole, diverged, colour, line, marker if line == "-" else "")
        panel.finish()
        found = any(math.isfinite(y) for curve in panel.curves for y in curve.values())
        return _svg(figure, re.sub(r"\W+", "-", title)) if found else ""


def _svg(figure: Figure, name: str) -> str:
    """An SVG element whose ids begin with `name` and whose grey is the page's text colour."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing, dpi=240)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(plots.GREY, "currentColor")

    def own(tag: re.Match) -> str:
        return re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", tag[0])

    return re.sub(r"<[^>]+>", own, text)
