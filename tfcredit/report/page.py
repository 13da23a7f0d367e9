"""The page of a report: HTML that needs no network and runs no script."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from tfcredit.report import figures
from tfcredit.report.reading import LARGEST, StoredRun
from tfcredit.training.flags import of_scope, shown_in

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
td.number { font-variant-numeric: tabular-nums; text-align: right }
td:first-child { min-width: 11rem; overflow-wrap: anywhere }
.results td:last-child { font-size: .75rem; min-width: 9rem }
@media (max-width: 40rem) { td:first-child { min-width: 7rem } th, td { padding: .35rem .3rem } }
.note { color: var(--faint); font-size: .9rem }
</style>
</head>
<body>
"""


def page(runs: Sequence[StoredRun], notes: Sequence[str] = ()) -> str:
    """Write the page.

    Args:
        runs: One or more.
        notes: Sentences on what was left out.

    Returns:
        A whole HTML document.
    """
    parts = [_HEAD, "<h1>tfcredit report</h1>", _warnings(runs), "<h2>Results</h2>", _results(runs)]
    parts += [_notes(runs, notes), _differences(runs), _charts(runs)]
    parts += [_maps(runs, measure) for measure in _MAPS]
    return "\n".join(part for part in parts if part) + "\n</body>\n</html>\n"


def _warnings(runs: Sequence[StoredRun]) -> str:
    sets = sorted({run.recipe.dataset for run in runs})
    if len(sets) == 1:
        return ""
    return (
        f'<p class="warning">These runs used different data sets ({escape(", ".join(sets))}): '
        "compare their angles, not their loss or accuracy.</p>"
    )


def _results(runs: Sequence[StoredRun]) -> str:
    heads = ["run", "rule", "top-1, %", "top-5, %", "mean angle, °", "model", "dataset", "seed"]
    heads += ["state", "step", "seconds", "versions"]
    rows = []
    for index, run in enumerate(runs):
        recipe, summary = run.recipe, run.summary
        versions = summary.get("versions")
        versions = versions.items() if isinstance(versions, dict) else ()
        rows.append(
            [
                _name(run, index),
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
                _text(", ".join(f"{name} {version}" for name, version in versions)),
            ]
        )
    return f'<div class="results">{_table(heads, rows)}</div>'


def _differences(runs: Sequence[StoredRun]) -> str:
    """The flags, but those in the table of results, that are not the same in all runs."""
    recipe = runs[0].recipe
    shown = shown_in(recipe, "report")
    names = [name for name in of_scope(recipe, "run") if name not in shown]
    names = [name for name in names if len({getattr(run.recipe, name) for run in runs}) > 1]
    if not names:
        return ""
    rows = [
        [_name(run, index), *(_text(getattr(run.recipe, name)) for name in names)]
        for index, run in enumerate(runs)
    ]
    return f"<h2>Other flags that differ</h2>\n{_table(('run', *names), rows)}"


def _charts(runs: Sequence[StoredRun]) -> str:
    charts = [
        ("Top-1", figures.top1(runs)),
        ("Loss", figures.loss(runs)),
        ("Mean angle of W and B", figures.mean_angle(runs)),
    ]
    legend = ", ".join(_name(run, index) for index, run in enumerate(runs))
    note = '<p class="note">Solid lines: test images; dashed lines: training, without R and L2.</p>'
    nothing = '<p class="note">No run has such numbers.</p>'
    shown = "\n".join(
        f"<section><h3>{title}</h3>{svg or nothing}</section>" for title, svg in charts
    )
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


def _maps(runs: Sequence[StoredRun], measure: str) -> str:
    """Heat maps of the runs that have this measure."""
    maps = []
    for index, run in enumerate(runs):
        if records := getattr(run, f"{measure}s"):
            svg = figures.heat_map(records, measure, f"{measure}{index}")
            maps.append(f"<section><h3>{_name(run, index)}</h3>{svg}</section>")
    if not maps:
        return ""
    title, note = _MAPS[measure]
    shown = "\n".join(maps)
    return f'<h2>{title}</h2>\n<p class="note">{note}</p>\n<div class="maps">\n{shown}\n</div>'


def _notes(runs: Sequence[StoredRun], others: Sequence[str]) -> str:
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    items = [f"<li>{_text(note, 1_000)}</li>" for note in [*notes, *others]]
    return "\n".join(["<ul>", *items, "</ul>"]) if items else ""


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table out of plain heads and cells that are HTML."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _cell(content: str) -> str:
    is_number = content.replace(".", "").isdigit()
    return f'<td class="number">{content}</td>' if is_number else f"<td>{content}</td>"


def _name(run: StoredRun, index: int) -> str:
    colour, marker = figures.look(index)
    letter = figures.MARKERS[marker]
    return f'<span style="color: {colour}" aria-hidden="true">{letter}</span> {escape(run.name)}'


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
