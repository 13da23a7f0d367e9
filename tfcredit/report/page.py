"""The page of a report: HTML that needs no network and runs no script."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from tfcredit.report import figures
from tfcredit.report.groups import Group, cells, grouped, heads, reference, results
from tfcredit.report.reading import LARGEST, StoredRun
from tfcredit.training.flags import of_scope, shown_in

_NUMBER = re.compile(r"-|-?\d+(\.\d+)?(e[+-]\d+)?( \[.*\])?|not finite")
"""A cell with a number, an interval or none."""
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>tfcredit report</title>
<style>
:root { --page: #fff; --text: #1c1c1c; --faint: #5c5c5c; --line: #d8d8d8; --warn: #fff3d1 }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181b; --text: #e8e8e8; --faint: #a8a8a8; --line: #3c4046; --warn: #4a3b10 }
}
body { background: var(--page); color: var(--text); font: 16px/1.45 system-ui, sans-serif;
  margin: 0 auto; max-width: 84rem; padding: 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem }
h1, h2, h3, p, li { overflow-wrap: anywhere }
h3 { font-size: 1rem; margin: 0 0 .5rem }
.warning { background: var(--warn); border-radius: .3rem; padding: .6rem .8rem }
.wide { overflow-x: auto }
svg { display: block; height: auto; max-width: 100%; width: 36rem }
.charts, .maps { display: grid; gap: 2rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(var(--least), 100%), 1fr)) }
.charts { --least: 20rem } .maps { --least: 28rem }
.maps section { overflow-x: auto } .maps svg { min-width: 29rem }
table { border-collapse: collapse; font-size: .85rem }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .5rem; text-align: left;
  vertical-align: top }
th { color: var(--faint); font-weight: 600; white-space: nowrap }
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap }
td:first-child { min-width: 13rem; overflow-wrap: anywhere }
@media (max-width: 40rem) { td:first-child { min-width: 9rem } th, td { padding: .35rem .3rem } }
.note { color: var(--faint); font-size: .9rem }
</style>
</head>
<body>
"""


def page(runs: Sequence[StoredRun], notes: Sequence[str] = (), compared: bool = False) -> str:
    """Write the page.

    Args:
        runs: One or more.
        notes: Sentences on what was left out.
        compared: True for the table with gaps and intervals even if each rule has a single run.

    Returns:
        A whole HTML document.
    """
    groups = grouped(runs)
    parts = [_HEAD, "<h1>tfcredit report</h1>", _warnings(runs), "<h2>Results</h2>"]
    if compared or len(groups) < len(runs):
        parts += [_comparison(groups), f"<h3>Run by run</h3>\n{_results(groups)}"]
    else:
        parts += [_results(groups)]
    parts += [_notes(runs, notes), _differences(groups), _charts(groups)]
    parts += [_maps(groups, measure) for measure in _MAPS]
    return "\n".join(part for part in parts if part) + "\n</body>\n</html>\n"


def _warnings(runs: Sequence[StoredRun]) -> str:
    sets = sorted({run.recipe.dataset for run in runs})
    if len(sets) == 1:
        return ""
    return (
        f'<p class="warning">These runs used different data sets ({escape(", ".join(sets))}): '
        "compare their angles, not their loss or accuracy.</p>"
    )


def _comparison(groups: Sequence[Group]) -> str:
    """The table of groups of runs that differ in their seed only."""
    marks = [_mark(look) for look in figures.looks(groups)]
    records = results(groups)
    rows = [
        [f"{mark}{escape(first)}", *map(escape, rest)]
        for mark, (first, *rest) in zip(marks, map(cells, records), strict=True)
    ]
    base = reference(groups).name
    note = (
        "Means of the runs that ended, with 95 % intervals (Student's t). Gap: points of top-1 "
        f"below {escape(base)}, paired by seed. Time: of a step, over that of {escape(base)}."
    )
    return f'{_table(heads(groups), rows)}\n<p class="note">{note}</p>'


def _results(groups: Sequence[Group]) -> str:
    heads = ["run", "rule", "top-1, %", "top-5, %", "mean angle, °", "model", "dataset", "seed"]
    heads += ["state", "step", "seconds"]
    rows = []
    for name, run in _named(groups):
        recipe, summary = run.recipe, run.summary
        rows.append(
            [
                name,
                _text(recipe.rule),
                _number(summary.get("top1"), 1, 100.0),
                _number(summary.get("top5"), 1, 100.0),
                _number(summary.get("mean_angle"), 1),
                _text(recipe.model),
                _text(recipe.dataset),
                _text(recipe.seed),
                _text(run.state),
                _number(summary.get("step"), 0),
                _number(summary.get("seconds"), 1),
            ]
        )
    return _table(heads, rows) + _versions(groups)


def _versions(groups: Sequence[Group]) -> str:
    """The versions that runs were made with, below the table."""
    told = defaultdict(list)
    for group in groups:
        for run in group.runs:
            versions = run.summary.get("versions")
            if isinstance(versions, dict) and versions:
                told[", ".join(f"{name} {versions[name]}" for name in versions)].append(run.name)
    if not told:
        return ""
    if len(told) == 1:
        return f'\n<p class="note">Versions: {_text(next(iter(told)))}.</p>'
    items = [
        f"{_text(names[0])} and {len(names) - 1} more: {_text(text)}"
        if len(names) > 1
        else f"{_text(names[0])}: {_text(text)}"
        for text, names in told.items()
    ]
    return f'\n<p class="note">Versions differ. {"; ".join(items)}.</p>'


def _differences(groups: Sequence[Group]) -> str:
    """The flags, but those in the table of results, that are not the same in all runs."""
    recipes = [group.runs[0].recipe for group in groups]
    shown = shown_in(recipes[0], "report")
    names = [name for name in of_scope(recipes[0], "run") if name not in shown]
    names = [name for name in names if len({getattr(recipe, name) for recipe in recipes}) > 1]
    if not names:
        return ""
    rows = [
        [name, *(_text(getattr(recipe, flag)) for flag in names)]
        for name, recipe in zip(_titles(groups), recipes, strict=True)
    ]
    return f"<h2>Other flags that differ</h2>\n{_table(('run', *names), rows)}"


def _charts(groups: Sequence[Group]) -> str:
    charts = [
        ("Top-1", figures.top1(groups)),
        ("Loss", figures.loss(groups)),
        ("Mean angle of W and B", figures.mean_angle(groups)),
    ]
    runs = [run for group in groups for run in group.runs]
    held_out = any("validation_top1" in row for run in runs for row in run.rows)
    words = "Solid lines: test images" + (", or validation images held out" if held_out else "")
    words += "; dashed lines: training, without R and L2."
    if len(groups) < len(runs):
        words += " Lines are means over seeds, bands the range between seeds."
    if any(run.state == "diverged" for run in runs):
        words += " Dotted lines up to a cross: runs that diverged."
    note = f'<p class="note">{words}</p>'
    nothing = '<p class="note">No run has such numbers.</p>'
    shown = "\n".join(
        f"<section><h3>{title}</h3>{svg or nothing}</section>" for title, svg in charts
    )
    legend = ", ".join(_titles(groups))
    return f'<h2>Training</h2>\n<p>{legend}</p>\n{note}\n<div class="charts">\n{shown}\n</div>'


_MAPS = {
    "angle": (
        "Angle of W and B, layer by layer",
        "0 degrees: errors travel as in backprop; 90: B knows nothing of W.",
    ),
    "error_angle": (
        "Angle of the errors and those of backprop, layer by layer",
        "Through all layers above, on a batch of test images; that of the last layer is always 0.",
    ),
}


def _maps(groups: Sequence[Group], measure: str) -> str:
    """A heat map of the first run of each group that has this measure."""
    maps = []
    for index, (group, title) in enumerate(zip(groups, _titles(groups), strict=True)):
        run = next((run for run in group.runs if getattr(run, f"{measure}s")), None)
        if run is not None:
            svg = figures.heat_map(getattr(run, f"{measure}s"), measure, f"{measure}{index}")
            seed = f", seed {run.recipe.seed}" if len(group.runs) > 1 else ""
            maps.append(f"<section><h3>{title}{seed}</h3>{svg}</section>")
    if not maps:
        return ""
    title, note = _MAPS[measure]
    shown = "\n".join(maps)
    return f'<h2>{title}</h2>\n<p class="note">{note}</p>\n<div class="maps">\n{shown}\n</div>'


def _notes(runs: Sequence[StoredRun], others: Sequence[str]) -> str:
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    items = [f"<li>{_text(note, 1_000)}</li>" for note in [*notes, *others]]
    return "\n".join(["<ul>", *items, "</ul>"]) if items else ""


def _table(heads: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    """A table out of plain heads and cells that are HTML; columns of numbers end alike."""
    columns = zip(*rows, strict=True)
    kinds = [' class="number"' if all(map(_NUMBER.fullmatch, one)) else "" for one in columns]

    def line(tag: str, cells: Iterable[str]) -> str:
        told = (f"<{tag}{kind}>{cell}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(told)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    head = line("th", map(escape, heads))
    return f'<div class="wide"><table>\n{head}\n{body}\n</table></div>'


def _named(groups: Sequence[Group]) -> Iterator[tuple[str, StoredRun]]:
    """Each run with its name, in its group's colour."""
    for group, look in zip(groups, figures.looks(groups), strict=True):
        for run in group.runs:
            yield f"{_mark(look)}{escape(run.name)}", run


def _titles(groups: Sequence[Group]) -> list[str]:
    """The names of groups, in their colours; where each is a single run, those of the runs."""
    single = all(len(group.runs) == 1 for group in groups)
    return [
        f"{_mark(look)}{escape(group.runs[0].name if single else group.name)}"
        for group, look in zip(groups, figures.looks(groups), strict=True)
    ]


def _mark(look: tuple[str, str]) -> str:
    """The colour and marker of a group, which stay on the line of the name behind them."""
    colour, marker = look
    letter = figures.LETTERS[marker]
    return f'<span style="color: {colour}" aria-hidden="true">{letter}</span>&nbsp;'


def _text(value: Any, most: int = 300) -> str:
    """A value as HTML, shortened if it is very long."""
    if value is None or value == "":
        return "-"
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits
        return "not finite"
    return escape(text if len(text) <= most else f"{text[: most - 3]}...")


def _number(value: Any, digits: int, scale: float = 1.0) -> str:
    """A number as text; a dash where there is none."""
    if not isinstance(value, int | float):
        return "-"
    if not abs(value) <= LARGEST:
        return "not finite"
    shown = f"{scale * value:.{digits}f}"
    return shown if len(shown) <= 20 else f"{scale * value:.3e}"
