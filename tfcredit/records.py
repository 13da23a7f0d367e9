"""Tables of records: flat dictionaries as CSV files, written whole or not at all."""

import csv
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from tfcredit.errors import UserError
from tfcredit.files import written

WORDS = ("layer", "rule", "matrix")
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


def read_csv(path: str | os.PathLike) -> list[dict]:
    """Read the records of a table that `write_csv` wrote.

    Args:
        path: The file.

    Returns:
        The records: numbers are numbers again, and names without a value are left out.

    Raises:
        UserError: The file can't be read as such a table.
    """
    try:
        with pathlib.Path(path).open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        return [
            {name: _value(name, text) for name, text in row.items() if text != ""} for row in rows
        ]
    except (OSError, ValueError, TypeError, csv.Error) as problem:
        raise UserError(
            f"{path} can't be read as a table of records ({problem}): mend or delete it."
        ) from None


def _value(name: str, text: str) -> Any:
    if name in WORDS:
        return text
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
