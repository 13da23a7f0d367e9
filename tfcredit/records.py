"""Tables of records: flat dictionaries as CSV files, written whole or not at all."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from tfcredit.errors import UserError
from tfcredit.files import written

NUMBER = re.compile(r"-?(\d{1,300}(\.\d*)?([eE][-+]?\d+)?|inf|nan)")
WORDS = ("layer", "rule", "matrix", "part")
"""Columns whose values are words, even if one looks like a number."""


def write_csv(records: Iterable[dict], path: str | os.PathLike, columns: Iterable[str] = ()):
    """Write records as a table, with a column for each name that one of them has.

    Args:
        records: Flat dictionaries; `None` stands for no value.
        path: The file; one that is there is replaced, and stays whole until then.
        columns: Names of the first columns, in this order.

    Raises:
        OSError: The file can't be written.
    """
    records = list(records)
    names = dict.fromkeys([*columns, *(name for record in records for name in record)])
    with written(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, list(names))
        table.writeheader()
        table.writerows(records)


def read_csv(path: str | os.PathLike, cut: bool = False) -> list[dict]:
    """Read the records of a table that `write_csv` wrote.

    Args:
        path: The file.
        cut: True to leave out a last line that is cut, of a table that grows line by line.

    Returns:
        The records: numbers are numbers again, and names without a value are left out.

    Raises:
        UserError: The file can't be read as such a table.
    """
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        text = path.read_bytes().decode()
        if cut:
            text = text[: text.rfind("\n") + 1]
        if text and not text.endswith("\n"):
            # A number in it may be cut, and would be read as another one.
            raise ValueError("its last line is cut")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        return [{name: _value(name, row[name]) for name in row if row[name] != ""} for row in rows]
    except (OSError, ValueError, TypeError, csv.Error) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise UserError(
            f"{path} can't be read as a table of records ({reason}): mend it or move it away."
        ) from None


def read_counted(
    path: str | os.PathLike,
    columns: Iterable[str] = ("epoch", "step"),
    cut: bool = False,
    is_repeated: bool = False,
) -> list[dict]:
    """Read a table whose rows are in the order of time.

    Args:
        path: The file; one that is missing has no rows.
        columns: Those that count up.
        cut: See `read_csv`.
        is_repeated: True if several rows may be of one time.

    Returns:
        The rows, as of `read_csv`.

    Raises:
        UserError: The file can't be read as such a table.
    """
    rows = read_csv(path, cut) if os.path.lexists(path) else []
    for name in columns:
        counted = [row.get(name) for row in rows]
        is_whole = all(isinstance(number, int) and number >= 0 for number in counted)
        if not is_whole or counted != sorted(counted if is_repeated else set(counted)):
            raise UserError(
                f"{path} is damaged (its column {name} does not count up): mend it, or move it "
                "away to go on without its rows."
            )
    return rows


def markdown(heads: Iterable[str], rows: Iterable[Iterable[object]], padded: bool = False) -> str:
    """Write a Markdown table.

    Args:
        heads: Of the columns.
        rows: Cells, whose text is shown; a `|` in it ends no cell.
        padded: True to fill the cells with spaces, so that the columns stand below each other.

    Returns:
        Its lines.

    Example:
        >>> print(markdown(["rule", "runs"], [["backprop", 5]], padded=True))
        | rule     | runs |
        |----------|------|
        | backprop | 5    |
    """
    lines = [[str(cell).replace("|", r"\|") for cell in row] for row in (heads, *rows)]
    if padded:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines = [[c.ljust(n) for c, n in zip(row, widths, strict=True)] for row in lines]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    else:
        rule = "|---" * len(lines[0]) + "|"
    first, *others = ("| " + " | ".join(row) + " |" for row in lines)
    return "\n".join([first, rule, *others])


def _value(name: str, text: str | None) -> Any:
    if name is None or text is None:
        raise ValueError("a line has more or fewer cells than the first one")
    if name in WORDS:
        return text
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{name}={text[:40]!r} is no number")
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
