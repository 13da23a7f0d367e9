"""The three kinds of figures of the studies; readable on light and on dark pages."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.two_routes.claim import Interval
from tfcredit.analysis.plots import COLOURS, GREY, blank

OTHERS = list(COLOURS.values())


def labelled(words: str, width: float = 6.4) -> tuple[Figure, Axes]:
    """An empty figure with a grid whose vertical axis says `words`."""
    figure, axes = blank(width, 4.0)
    axes.grid(axis="y", color=GREY, alpha=0.25)
    axes.set_ylabel(words, color=GREY)
    return figure, axes


def lines(series: Mapping[str, Mapping[str, Interval]], across: str, words: str) -> Figure:
    """A line with error bars per name, over labels of the horizontal axis.

    Args:
        series: Name -> label -> value.
        across: What the labels are.
        words: What the values are, in per cent.
    """
    figure, axes = labelled(words)
    labels = list(dict.fromkeys(label for values in series.values() for label in values))
    for place, (name, values) in enumerate(series.items()):
        x = [labels.index(label) + 0.04 * (place - len(series) / 2) for label in values]
        means = [value.mean for value in values.values()]
        reach = [np.nan_to_num(value.high - value.mean) for value in values.values()]
        colour = _colour(name, place)
        axes.errorbar(
            x, means, reach, color=colour, marker="o", markersize=4, capsize=2, label=name
        )
    axes.set_xticks(range(len(labels)), labels, rotation=15 if len(labels) > 5 else 0)
    axes.set_xlabel(across, color=GREY)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 102.0))  # Student's intervals know no limits
    _legend(figure)
    return figure


def strips(groups: Mapping[str, Sequence[float]], words: str) -> Figure:
    """All values of each group as points, and the median as a bar."""
    figure, axes = labelled(words)
    for place, (name, values) in enumerate(groups.items()):
        spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else [0.0]
        colour = _colour(name, place)
        axes.scatter(place + np.asarray(spread), np.sort(values), s=14, color=colour, label=name)
        axes.hlines(np.median(values), place - 0.35, place + 0.35, color=colour)
    axes.set_xticks(range(len(groups)), [name.replace("_", "\n") for name in groups])
    return figure


def bars(groups: Mapping[str, Mapping[str, Interval]], words: str) -> Figure:
    """Groups of bars with error bars.

    Args:
        groups: Name of a bar's colour -> label of the horizontal axis -> value.
        words: What the values are.
    """
    figure, axes = labelled(words)
    labels = list(dict.fromkeys(label for values in groups.values() for label in values))
    width = 0.8 / len(groups)
    for place, (name, values) in enumerate(groups.items()):
        x = [labels.index(label) + (place + 0.5) * width - 0.4 for label in values]
        means = [value.mean for value in values.values()]
        reach = [np.nan_to_num(value.high - value.mean) for value in values.values()]
        colour = _colour(name, place)
        axes.bar(x, means, width, yerr=reach, color=colour, ecolor=GREY, capsize=2, label=name)
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    _legend(figure)
    return figure


def _colour(name: str, place: int):
    """A rule has the same colour in all figures."""
    return COLOURS.get(name, OTHERS[place % len(OTHERS)])


def _legend(figure: Figure) -> None:
    figure.legend(
        loc="outside lower center", ncols=3, frameon=False, labelcolor=GREY, fontsize="small"
    )
