"""The figures of a report, as SVG that takes its colour from the page."""

import io
import math
import re
from collections.abc import Callable, Sequence

from tfcredit.errors import UserError
from tfcredit.report.reading import StoredRun

try:
    import matplotlib
    from matplotlib.figure import Figure

    from tfcredit.analysis import plots
except ImportError as problem:
    raise UserError("tfcredit report needs matplotlib: pip install 'tfcredit[plots]'.") from problem

# They stand out from white and from black.
COLOURS = ("#3f7fd9", "#cf6035", "#2e9b57", "#b05ac8", "#a98600", "#1b9aaa", "#d64f84", "#8a7a6d")
MARKERS = {"o": "●", "^": "▲", "s": "■", "D": "◆", "v": "▼"}
"""matplotlib's name -> the same as a letter."""
_STYLE = {"svg.fonttype": "none", "text.parse_math": False}


def look(index: int) -> tuple[str, str]:
    """The colour and the marker of a run, as matplotlib takes them."""
    return COLOURS[index % len(COLOURS)], list(MARKERS)[index // len(COLOURS) % len(MARKERS)]


def loss(runs: Sequence[StoredRun]) -> str:
    """Cross entropy over steps; solid: test, dashed: training."""
    return _curves("cross entropy", runs, lambda r: r.rows, {"test_loss": "-", "task_loss": "--"})


def top1(runs: Sequence[StoredRun]) -> str:
    """Top-1 over steps; solid: test, dashed: training."""
    return _curves("top-1, %", runs, lambda r: r.rows, {"test_top1": "-", "top1": "--"}, 100.0)


def mean_angle(runs: Sequence[StoredRun]) -> str:
    """Mean angle of W and B over steps, degrees."""
    return _curves("mean angle, degrees", runs, lambda r: r.mean_angles, {"mean_angle": "-"})


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
    runs: Sequence[StoredRun],
    records: Callable[[StoredRun], list[dict]],
    columns: dict[str, str],
    scale: float = 1.0,
) -> str:
    """A line per run and column (name -> line style); empty if no run has a finite value."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 3.0), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        found = False
        for index, run in enumerate(runs):
            colour, marker = look(index)
            for column, line in columns.items():
                rows = [row for row in records(run) if column in row]
                values = [scale * row[column] for row in rows]
                found = found or any(map(math.isfinite, values))
                axes.plot(
                    [row["step"] for row in rows],
                    values,
                    line,
                    color=colour,
                    marker=marker if line == "-" else "",
                    markersize=4,
                )
        plots.fade(axes)
        axes.set_xlabel("step", color=plots.GREY)
        axes.set_ylabel(title, color=plots.GREY)
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
