"""Figures of measures over training; needs matplotlib, the extra `plots`.

The figures are readable on light and on dark pages: no background, axes in mid-grey, colours that
stand out from white and from black. They belong to no window: use `figure.savefig`, or show them
as the last value of a notebook's cell.
"""

from collections.abc import Sequence

import numpy as np

from tfcredit.errors import UserError

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ImportError as problem:
    raise UserError(
        "tfcredit.analysis.plots needs matplotlib: pip install 'tfcredit[plots]'."
    ) from problem

GREY = "#808080"
"""Of axes and words."""
DEPTH = LinearSegmentedColormap.from_list("depth", ["#3f7fd9", "#9a68c4", "#cf6035"])
"""Of layers, from the first to the last: blue, violet, orange."""
_UNITS = {"angle": "degrees", "rank": "effective rank", "ratio": "ratio", "agreement": "share"}


def curves(records: Sequence[dict], name: str = "angle", transparent: bool = True) -> Figure:
    """A measure over training, a curve per layer.

    Args:
        records: With `step`, `layer` and `name`, as those of `MeasureMonitor`; others are left out.
        name: The measure.
        transparent: True for no background, False for a white one.

    Returns:
        A matplotlib figure. Values that are not finite are gaps, and a note says so.

    Raises:
        UserError: No record has the measure.
    """
    steps, layers, values = _table(records, name)
    ink = GREY if transparent else "black"
    figure, axes = blank(6.4, 4.0, transparent)
    for row, layer, depth in zip(values, layers, np.linspace(0, 1, len(layers)), strict=True):
        axes.plot(steps, row, color=DEPTH(depth), marker=".", markersize=4, label=layer)
    if name.endswith("angle") and np.isfinite(values).any():
        axes.set_ylim(0, max(95.0, 1.05 * np.nanmax(values)))
    axes.set_xlabel("step", color=ink)
    axes.set_ylabel(_title(name), color=ink)
    figure.legend(
        loc="outside right upper",
        frameon=False,
        labelcolor=ink,
        fontsize="small" if len(layers) <= 12 else "xx-small",
        ncols=1 + (len(layers) - 1) // 30,
    )
    _note(axes, values, ink, "gaps: not defined or not finite")
    return figure


def heat_map(records: Sequence[dict], name: str = "angle", transparent: bool = True) -> Figure:
    """A measure over training, a row per layer, a column per time.

    Args:
        records: As `curves` has them.
        name: The measure. Angles are coloured from 0 (blue) over 90 (white) to 180 degrees (red).
        transparent: True for no background, False for a white one.

    Returns:
        A matplotlib figure. Values that are not finite are hatched, and a note says so.

    Raises:
        UserError: No record has the measure.
    """
    steps, layers, values = _table(records, name)
    ink = GREY if transparent else "black"
    figure, axes = blank(6.4, 1.4 + 0.2 * len(layers), transparent)
    is_angle = name.endswith("angle")
    axes.add_patch(
        axes.patch.__class__(
            (0, 0), 1, 1, transform=axes.transAxes, fill=False, hatch="///", edgecolor=GREY, lw=0
        )
    )
    shown = axes.pcolormesh(
        np.arange(len(steps) + 1),
        np.arange(len(layers) + 1),
        np.ma.masked_invalid(values),
        cmap=colormaps["RdBu_r" if is_angle else "viridis"],
        vmin=0.0 if is_angle else None,
        vmax=180.0 if is_angle else None,
    )
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(layers)) + 0.5, layers, fontsize="small")
    ticks = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 8)).astype(int))
    axes.set_xticks(ticks + 0.5, [str(steps[i]) for i in ticks])
    axes.set_xlabel("step", color=ink)
    bar = figure.colorbar(shown, ax=axes)
    bar.set_label(_title(name), color=ink)
    if is_angle:
        bar.set_ticks([0, 45, 90, 135, 180])
    bar.outline.set_edgecolor(ink)
    bar.ax.tick_params(colors=ink)
    _note(axes, values, ink, "hatched: not defined or not finite")
    return figure


def blank(width: float, height: float, transparent: bool = True) -> tuple[Figure, Axes]:
    """A figure with empty axes, in the style of this module.

    Args:
        width: In inches.
        height: In inches.
        transparent: True for no background; False for a white one, with black axes.

    Returns:
        The figure and its axes.
    """
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    figure.patch.set(facecolor="white", alpha=0.0 if transparent else 1.0)
    axes = figure.add_subplot()
    fade(axes, GREY if transparent else "black")
    return figure, axes


def fade(axes: Axes, ink: str = GREY) -> None:
    """Make axes readable on light and dark pages: no background, lines and numbers in `ink`."""
    axes.patch.set_alpha(0.0)
    axes.tick_params(which="both", colors=ink)
    for spine in axes.spines.values():
        spine.set_color(ink)


def _table(records: Sequence[dict], name: str) -> tuple[list[int], list[str], np.ndarray]:
    """Steps, layers and the values `[layers, steps]`, NaN where there is none."""
    having = [record for record in records if name in record and "step" in record]
    if not having:
        known = sorted({key for record in records for key in record} - {"layer", "rule", "step"})
        raise UserError(
            f"no record has a step and {name!r}: give records of MeasureMonitor, and one of "
            f"{', '.join(known) or 'the measures'}."
        )
    steps = sorted({record["step"] for record in having})
    layers = list(dict.fromkeys(record["layer"] for record in having))
    values = np.full((len(layers), len(steps)), np.nan)
    for record in having:
        values[layers.index(record["layer"]), steps.index(record["step"])] = record[name]
    values[~np.isfinite(values)] = np.nan
    return steps, layers, values


def _title(name: str) -> str:
    unit = next((unit for word, unit in _UNITS.items() if word in name), None)
    words = name.replace("_", " ")
    return words if unit is None or unit in words else f"{words} ({unit})"


def _note(axes: Axes, values: np.ndarray, ink: str, words: str) -> None:
    if not np.isfinite(values).all():
        axes.set_title(words, loc="left", color=ink, fontsize="small")
