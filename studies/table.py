"""Rows of studies in CSV files, and Markdown tables in pages."""

import csv
import dataclasses
import pathlib
import statistics
from collections.abc import Iterable, Sequence

from studies import ROOT
from tfcredit.errors import UserError
from tfcredit.records import write_csv


def read(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows that a file holds already, as text; none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: pathlib.Path, fields: Sequence[str], rows: Iterable[dict]) -> None:
    """Writes the rows with these columns, and makes the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv([{field: row.get(field, "") for field in fields} for row in rows], path)


def as_text(row: dict) -> dict[str, str]:
    """A row as `read` gives it back: all values as text, `None` as an empty one."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


def select(rows: Iterable[dict], **wanted) -> list[dict]:
    """The rows with these values."""
    wanted = as_text(wanted)
    return [row for row in rows if wanted.items() <= row.items()]


def diverged(rows: Sequence[dict]) -> str:
    """How many of some runs had outputs that were not finite."""
    return f"{sum(row['finite'] != 'True' for row in rows)} of {len(rows)}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and half range as text; a dash for no values."""
    if not values:
        return "-"
    half = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.{digits}f} +- {half:.{digits}f}"


@dataclasses.dataclass(frozen=True)
class Place:
    """A table's place in a page: between `<!-- TABLE:name -->` and the next `<!-- END -->`.

    Attributes:
        name: The table's.
        page: The page, relative to the root of the checkout.
    """

    name: str
    page: str

    def put(self, table: str) -> None:
        """Replaces what stands there.

        Args:
            table: Markdown.

        Raises:
            UserError: The page does not have the two comments once.
        """
        path, begin, end = ROOT / self.page, f"<!-- TABLE:{self.name} -->\n", "<!-- END -->"
        head, *rest = path.read_text().split(begin)
        if len(rest) != 1 or end not in rest[0]:
            raise UserError(
                f"{self.page} has not one place {begin.strip()} with {end} behind it: write both "
                "lines where the table belongs."
            )
        path.write_text(f"{head}{begin}\n{table}\n\n{end}{rest[0].split(end, 1)[1]}")
