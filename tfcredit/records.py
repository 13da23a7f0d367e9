"""Tables of records: flat dictionaries as CSV files, written whole or not at all."""

import csv
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from tfcredit.errors import UserError


def write_csv(records: Iterable[dict], path: str | os.PathLike) -> None:
    """Records as a table: a column for each name that one of them has.

    Args:
        records: Flat dictionaries.
        path: The file; one that is there is replaced, and stays whole until then.
    """
    records, path = list(records), pathlib.Path(path)
    columns = list(dict.fromkeys(name for record in records for name in record))
    partial = path.with_name(f".{path.name}")
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(records)
    os.replace(partial, path)


def read_csv(path: str | os.PathLike) -> list[dict]:
    """The records of a table that `write_csv` wrote.

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
    if name in ("layer", "rule", "matrix"):
        return text
    return int(text) if name in ("step", "index") else float(text)
