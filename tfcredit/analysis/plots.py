"""Figures of measures over training; needs matplotlib, the extra `plots`.

The figures are readable on light and on dark pages: no background, axes in mid-grey, colours that
stand out from white and from black. They belong to no window: use `figure.savefig`, or show them
as the last value of a notebook's cell.
"""

import textwrap
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

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
COLOURS = {
    "backprop": "#3f7fd9",
    "symmetric_alignment": "#cf6035",
    "calibrated_activation": "#2e9b57",
    "calibrated_mirror": "#b05ac8",
    "info_alignment": "#a98600",
    "weight_mirror": "#1b9aaa",
    "feedback_alignment": "#d64f84",
    "kolen_pollack": "#8a7a6d",
    "tracking_mirror": "#e0453a",
    "activation_alignment": "#7d6cf0",
    "tracking_activation": "#6f951c",
}
"""Rule -> its colour in all figures. They stand out from white and from black."""
MARKERS = ("o", "^", "s", "D", "v")
LONGEST = 32
"""Letters of a line of a legend; and of a layer's name for which a figure need not be wider."""
_PANELS = {
    "top1": ("{part} top-1, %", 100.0),
    "top5": ("{part} top-5, %", 100.0),
    "loss": ("{part} loss", 1.0),
    "mean_angle": ("angle of W and B, degrees", 1.0),
}
"""Measure of `compare` -> its words and the factor of its unit; others stand for themselves."""
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
    size = "small" if len(layers) <= 12 else "xx-small"
    _name(figure, ink, fontsize=size, ncols=1 + (len(layers) - 1) // 30)
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
    room = 0.08 * max(0, *(len(layer) - LONGEST for layer in layers))  # for long names
    figure, axes = blank(6.4 + room, 1.4 + 0.2 * len(layers), transparent)
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
    ticks = np.arange(0, len(steps), -(-len(steps) // 8))
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


def compare(
    records: Sequence[dict],
    names: Sequence[str] = ("top1", "mean_angle"),
    transparent: bool = True,
) -> Figure:
    """Rules over training: the mean over seeds, and the range between them as a band.

    Args:
        records: With `rule`, `seed`, `step` and the measures, as those of `tfcredit.compare`; a
            value of `None` or none at all is left out. `part`, "test" by default, says which images
            `loss`, `top1` and `top5` are of. A seed with a record whose `diverged` is
            true counts in no mean and no band: it is a dotted line up to a cross.
        names: The measures, a panel each; `top1` and `top5` are shown in per cent.
        transparent: True for no background, False for a white one.

    Returns:
        A matplotlib figure. A rule has the same colour in all figures of the package.

    Raises:
        UserError: No record has one of the measures.
    """
    rules = list(dict.fromkeys(record["rule"] for record in records))
    ink = GREY if transparent else "black"
    figure = Figure(figsize=(0.8 + 4.4 * len(names), 3.6), layout="constrained")
    figure.patch.set(facecolor="white", alpha=0.0 if transparent else 1.0)
    told = set()
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        words, scale = _PANELS.get(name, (_title(name), 1.0))
        parts = {each.get("part", "test") for each in records if each.get(name) is not None}
        panel = Panel(axes, words.replace("{part}", " or ".join(sorted(parts))), scale, ink)
        for rule, (colour, _) in zip(rules, looks(rules), strict=True):
            whole, broken = _curves_of(records, rule, name)
            if whole or broken:
                label = None if rule in told else rule
                panel.draw(whole, broken, colour, label=label)
                told.add(rule)
        if not panel.curves:
            known = sorted({key for each in records for key in each} - {"rule", "seed", "step"})
            raise UserError(
                f"no record has a step and {name!r}: give records of tfcredit.compare, and one of "
                f"{', '.join(known) or 'the measures'}."
            )
        panel.finish()
    _name(figure, ink)
    return figure


def _curves_of(
    records: Sequence[dict], rule: str, name: str
) -> tuple[list[dict[int, float]], list[dict[int, float]]]:
    """The curves, step -> value, of a rule's seeds: of those that did not diverge, and did."""
    seeds, diverged = defaultdict(dict), set()
    for record in records:
        if record["rule"] == rule:
            if record.get(name) is not None:
                seeds[record["seed"]][record["step"]] = float(record[name])
            if record.get("diverged"):
                diverged.add(record["seed"])
    curves: tuple[list, list] = ([], [])
    for seed, curve in seeds.items():
        curves[seed in diverged].append(curve)
    return curves


class Panel:
    """Axes of one measure over steps, with a curve for several runs each.

    Args:
        axes: To draw on.
        title: What the values are, with their unit.
        scale: What they are multiplied by, 100 to show shares in per cent.
        ink: Colour of axes and words.

    Attributes:
        curves: The curves that were drawn.
    """

    def __init__(self, axes: Axes, title: str, scale: float = 1.0, ink: str = GREY):
        self.axes, self.curves = axes, []
        self._scale, self._ink = scale, ink
        self._shown: list[Mapping[int, float]] = []
        fade(axes, ink)
        axes.set_xlabel("step", color=ink)
        axes.set_ylabel(title, color=ink)

    def draw(
        self,
        curves: Sequence[Mapping[int, float]],
        diverged: Sequence[Mapping[int, float]] = (),
        colour: str = GREY,
        line: str = "-",
        marker: str = "",
        label: str | None = None,
    ) -> None:
        """Draw runs that differ in their seed only.

        Args:
            curves: Step -> value of each run: their mean is a line, their range a band.
            diverged: The same of runs that diverged: dotted lines that end in a cross.
            colour: Of all.
            line: Style of the mean's line.
            marker: On that line.
            label: In the legend.
        """
        values = defaultdict(list)
        for curve in curves:
            for step in curve:
                values[step].append(self._scale * curve[step])
        steps = sorted(values)
        means = [np.mean(values[step]) for step in steps]
        look = {"color": colour, "label": label}
        self.axes.plot(steps, means, line, marker=marker, markersize=4, **look)
        if len(curves) > 1:
            low, high = ([end(values[step]) for step in steps] for end in (np.min, np.max))
            self.axes.fill_between(steps, low, high, color=colour, alpha=0.25, lw=0)
        for curve in diverged:
            steps, ends = list(curve), [self._scale * value for value in curve.values()]
            self.axes.plot(steps, ends, ":", color=colour, lw=1)
            self.axes.plot(steps[-1:], ends[-1:], "x", color=colour)
        self._shown += curves
        self.curves += [*curves, *diverged]

    def finish(self) -> None:
        """Choose the limits, by the runs that did not diverge, if there are any.

        Where a curve runs away it leaves the picture, and a note says so.
        """
        finite = [
            [self._scale * value for value in curve.values() if np.isfinite(value)]
            for curve in self._shown or self.curves
        ]
        finite = [values for values in finite if values]
        if not finite:
            return
        low, highest = min(map(min, finite)), max(map(max, finite))
        # One curve that runs away is not to flatten the others.
        high = min(highest, 3 * float(np.median([max(values) for values in finite])) or highest)
        if high < highest:
            self.axes.set_title("cut off above", loc="left", color=self._ink, fontsize="small")
        room = 0.05 * (high - low) or 1.0
        self.axes.set_ylim(low - room, high + room)


def looks(rules: Sequence[str]) -> list[tuple[str, str]]:
    """The colours and markers of curves that may be of the same rule.

    Args:
        rules: The rule of each curve, as `--rule` takes it; arguments do not count.

    Returns:
        A colour and a marker for each. The first curve of a rule has the rule's colour of
        `COLOURS`; another rule takes one that is left.
    """
    names = [rule.partition("(")[0] for rule in rules]
    own = {name: COLOURS[name] for name in names if name in COLOURS}
    palette = list(COLOURS.values())
    for name in dict.fromkeys(names):
        if name not in own:
            start = zlib.crc32(name.encode()) % len(palette)
            turned = palette[start:] + palette[:start]
            free = [colour for colour in turned if colour not in own.values()]
            own[name] = (free or turned)[0]
    spare = [colour for colour in palette if colour not in own.values()] or palette
    found, seen, further = [], defaultdict(int), 0
    for name in names:
        if not seen[name]:
            first = sum(own[name] == colour for colour, _ in found)
            found.append((own[name], MARKERS[first % len(MARKERS)]))
        else:
            turn = 1 + further // len(spare)
            found.append((spare[further % len(spare)], MARKERS[turn % len(MARKERS)]))
            further += 1
        seen[name] += 1
    return found


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


def _name(figure: Figure, ink: str, **options: Any) -> None:
    """Name the curves of a figure at its right, long names on several lines."""
    legend = figure.legend(loc="outside right upper", frameon=False, labelcolor=ink, **options)
    for text in legend.get_texts():
        text.set_text(textwrap.fill(text.get_text(), LONGEST, break_on_hyphens=False))
    box = legend.get_window_extent()
    figure.set_figwidth(figure.get_figwidth() + max(0.0, box.width / figure.dpi - 2.0))
    figure.set_figheight(max(figure.get_figheight(), box.height / figure.dpi + 0.2))


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
