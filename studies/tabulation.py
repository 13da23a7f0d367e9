"""What the studies share: rows of a file that are kept, spreads, and tables in pages."""

import csv
import pathlib
import statistics
from collections.abc import Iterable, Sequence

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def read(path: pathlib.Path) -> list[dict]:
    """The rows that a file holds already, as text; none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: pathlib.Path, fields: Sequence[str], rows: Iterable[dict]) -> None:
    """Write the rows, and the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and half range as text; a dash for no values."""
    if not values:
        return "-"
    half = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.{digits}f} +- {half:.{digits}f}"


def put(name: str, table: str, page: pathlib.Path = README) -> None:
    """Replace what stands between `<!-- TABLE:name -->` and the next `<!-- END -->` of a page."""
    begin, end = f"<!-- TABLE:{name} -->\n", "<!-- END -->"
    head, rest = page.read_text().split(begin)
    page.write_text(f"{head}{begin}\n{table}\n\n{end}{rest.split(end, 1)[1]}")
