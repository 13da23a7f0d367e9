"""Puts a table between its markers in README.md."""

import pathlib

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def put(name: str, table: str) -> None:
    """Replace what stands between `<!-- TABLE:name -->` and the next `<!-- END -->`."""
    begin, end = f"<!-- TABLE:{name} -->\n", "<!-- END -->"
    head, rest = README.read_text().split(begin)
    README.write_text(f"{head}{begin}\n{table}\n\n{end}{rest.split(end, 1)[1]}")
