"""The report: tables as JSON, and the Markdown that is made of the JSON."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Table:
    """Rows of measurements.

    Attributes:
        part: The part of the benchmark.
        title: What was measured.
        note: A sentence on how to read it.
        columns: Heading, the row's key, and a name in `FORMATS`.
        rows: The measurements.
    """

    part: str
    title: str
    note: str
    columns: list[tuple[str, str, str]]
    rows: list[dict]


def judge(row: dict, value: float, budget: float | None) -> dict:
    """The row with its budget, and whether the value keeps to it; `None` for both without one."""
    return row | {"budget": budget, "met": None if budget is None else value <= budget}


def title(setting: dict) -> str:
    """A setting in words: `network resnet18@224, batch 16`."""
    return ", ".join(f"{key} {value}" for key, value in setting.items())


def _number(pattern: str) -> Callable[[dict, str], str]:
    return lambda row, key: "-" if row.get(key) is None else format(row[key], pattern)


def _spread(row: dict, key: str) -> str:
    return f"{row[key]:.3f} ({row[f'{key}_low']:.3f} to {row[f'{key}_high']:.3f})"


def _verdict(row: dict, key: str) -> str:
    return {None: "-", True: "met", False: "**missed**"}[row.get(key)]


FORMATS = {
    "text": lambda row, key: "-" if row.get(key) is None else str(row[key]),
    "name": lambda row, key: f"`{row[key]}`",
    "ms": lambda row, key: f"{1000 * row[key]:.4g}",
    "seconds": _number(".2f"),
    "ratio": _number(".2f"),
    "number": _number(".1f"),
    "MB": lambda row, key: f"{row[key] / 1e6:.0f}",
    "spread": _spread,
    "verdict": _verdict,
}
"""Name of a format -> function from the row and the key to the text of a cell."""

RATIO = ("ratio (quartiles)", "ratio", "spread")
BUDGET = ("budget", "budget", "ratio")
VERDICT = ("verdict", "met", "verdict")
LOAD = ("load", "load", "number")


def surroundings_line(environment: dict[str, Any]) -> str:
    """Machine and versions in a line.

    Args:
        environment: What `measures.surroundings` gave.

    Returns:
        A sentence.
    """
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return (
        f"{environment['processor']}, {environment['machine']}; oneDNN {environment['onednn']}; "
        f"{versions}; revision {environment['git_revision']}."
    )


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown.

    Args:
        report: What the JSON file holds: `environment`, `command`, `begun`, `minutes`, `tables`.

    Returns:
        Markdown with a section for each table, behind the ratios of a part's tables side by side
        where there are more than two of the same competitors.
    """
    lines = [
        f"# `{report['command']}`",
        "",
        f"{report['begun']}, {report['minutes']:.0f} minutes. "
        + surroundings_line(report["environment"]),
        "",
        "Ratios are medians over rounds, with quartiles, to the same network of plain Keras layers "
        "trained by backprop in the same process. Load is the machine's load average: what exceeds "
        "its number of CPUs is others' work.",
    ]
    for part, tables in itertools.groupby(report["tables"], key=lambda table: table["part"]):
        lines += _overview(part, list(tables))
    for table in report["tables"]:
        headings = [heading for heading, _, _ in table["columns"]]
        lines += ["", f"## {table['part']}: {table['title']}", "", table["note"], ""]
        if headings:
            lines += [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
        for row in table["rows"]:
            cells = [FORMATS[form](row, key) for _, key, form in table["columns"]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _overview(part: str, tables: list[dict]) -> list[str]:
    """The ratios of tables of the same competitors, a line for each setting."""
    tables = [table for table in tables if table["rows"] and "seconds" in table["rows"][0]]
    names = [[row["rule"] for row in table["rows"]] for table in tables]
    if len(tables) < 3 or any(each != names[0] for each in names):
        return []
    lines = ["", f"## {part}: all ratios", ""]
    lines += [f"| setting | {' | '.join(f'`{name}`' for name in names[0])} |"]
    lines += ["|---" * (1 + len(names[0])) + "|"]
    for table in tables:
        ratios = [f"{row['ratio']:.2f}" for row in table["rows"]]
        lines.append(f"| {table['title']} | {' | '.join(ratios)} |")
    return lines
