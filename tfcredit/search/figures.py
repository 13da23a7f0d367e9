"""Figures of a search, readable on light and on dark pages as those of `tfcredit.analysis.plots`.

They take the rows of `trials.csv` as dicts. Trials without a value (failed) are left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tfcredit.analysis.plots import DEPTH, GREY, blank, fade
from tfcredit.search.space import Parameter

LOOKS = {"finished": ("o", "#3f7fd9"), "pruned": ("x", "#b05ac8"), "diverged": ("v", "#cf6035")}
"""Outcome -> marker and colour."""
COLUMNS = 4


def history(rows: Sequence[dict]) -> Figure:
    """Test top-1 of each trial in their order, and the best so far."""
    figure, axes = blank(6.4, 3.6)
    _scatter(axes, rows, "trial")
    done = [row for row in rows if row["outcome"] == "finished"]
    best = np.maximum.accumulate([row["top1"] for row in done])
    axes.step([row["trial"] for row in done], best, where="post", color=GREY, label="best so far")
    axes.set_xlabel("trial", color=GREY)
    axes.set_ylabel("top-1", color=GREY)
    figure.legend(loc="outside right upper", frameon=False, labelcolor=GREY)
    return figure


def slices(rows: Sequence[dict], space: Mapping[str, Parameter]) -> Figure:
    """Test top-1 over each parameter."""
    columns = min(COLUMNS, len(space))
    lines = -(-len(space) // columns)
    figure = Figure(figsize=(1.0 + 2.4 * columns, 2.8 * lines), dpi=120, layout="constrained")
    figure.patch.set_alpha(0.0)
    for index, (name, one) in enumerate(space.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        fade(axes)
        if one.choices:
            shown = [{**row, name: one.choices.index(row[name])} for row in rows]
            axes.set_xticks(range(len(one.choices)), map(str, one.choices))
        else:
            shown = rows
            axes.set_xscale("log" if one.log else "linear")
            axes.xaxis.set_minor_formatter(NullFormatter())  # within a decade they would overlap
            axes.set_xlim(one.low, one.high)
        _scatter(axes, shown, name)
        axes.set_xlabel(name, color=GREY)
        if index % columns == 0:
            axes.set_ylabel("top-1", color=GREY)
    return figure


def parallel(rows: Sequence[dict], space: Mapping[str, Parameter]) -> Figure:
    """A line per trial through the axes of all parameters, coloured by its top-1."""
    figure, axes = blank(1.5 + 1.5 * (len(space) + 1), 3.8)
    values = [row["top1"] for row in rows]
    colours = ScalarMappable(Normalize(min(values), max(values)), DEPTH)
    for row in sorted(rows, key=lambda row: row["top1"]):  # the best on top
        heights = [_height(row[name], one) for name, one in space.items()]
        axes.plot(heights, color=colours.to_rgba(row["top1"]), alpha=0.8)
    for place, one in enumerate(space.values()):
        axes.axvline(place, color=GREY, linewidth=0.8)
        marks = one.choices or (one.low, one.high)
        for mark in marks:
            text = str(mark) if one.choices else f"{mark:.3g}"
            axes.text(place, _height(mark, one), f" {text}", color=GREY, fontsize="small")
    axes.set_xticks(range(len(space)), space)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(colours, ax=axes)
    bar.set_label("top-1", color=GREY)
    bar.outline.set_edgecolor(GREY)
    bar.ax.tick_params(colors=GREY)
    return figure


def importance(shares: Mapping[str, float]) -> Figure:
    """A bar per parameter: its share of the importance."""
    figure, axes = blank(6.4, 1.2 + 0.4 * len(shares))
    axes.barh(list(shares), list(shares.values()), color=LOOKS["finished"][1])
    axes.invert_yaxis()
    axes.set_xlabel("share of the importance", color=GREY)
    return figure


def _height(value, one: Parameter) -> float:
    """The place of a value in its range, from 0 to 1."""
    if one.choices:
        return one.choices.index(value) / (len(one.choices) - 1)
    scale = np.log if one.log else float
    return (scale(value) - scale(one.low)) / (scale(one.high) - scale(one.low))


def _scatter(axes: Axes, rows: Sequence[dict], name: str) -> None:
    for outcome, (marker, colour) in LOOKS.items():
        some = [row for row in rows if row["outcome"] == outcome]
        if some:
            x, y = [row[name] for row in some], [row["top1"] for row in some]
            axes.plot(x, y, marker, color=colour, label=outcome, linestyle="", clip_on=False)
