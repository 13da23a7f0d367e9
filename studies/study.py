"""A study: cases that are measured once each, and tables of their rows."""

import argparse
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from studies import ROOT
from studies.table import Place, as_text, read, select, write
from tfcredit.environment import environment

Rows = list[dict[str, str]]


def grid(**values: Iterable) -> Iterator[dict]:
    """All cases that values of columns make; those of the first column change last."""
    for chosen in itertools.product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


@dataclasses.dataclass(frozen=True)
class Study:
    """A study and its command.

    Attributes:
        name: As `python -m studies` takes it, and of its file of rows.
        about: Text of the command's help.
        tables: Functions from rows to Markdown, each with its place in the docs, or `None` for a
            table that no page shows.
        fields: Columns of the file of rows; empty for a study that keeps none.
        cases: Function of the flags and the kept rows that gives all cases in order. A case is the
            columns that name it, with their values.
        measure: Function from a case to its rows.
        finish: Function of the flags and all rows that runs behind the cases; it may change rows.
        flags: More flags of the command: name -> arguments of `ArgumentParser.add_argument`.
    """

    name: str
    about: str
    tables: Sequence[tuple[Callable[[Rows], str], Place | None]]
    fields: Sequence[str] = ()
    cases: Callable[[argparse.Namespace, Rows], Iterable[dict]] = lambda flags, rows: ()
    measure: Callable[[dict], list[dict]] = lambda case: []
    finish: Callable[[argparse.Namespace, Rows], None] = lambda flags, rows: None
    flags: Mapping[str, dict] = dataclasses.field(default_factory=dict)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The flags of a command line."""
        parser = argparse.ArgumentParser(
            prog=f"python -m studies {self.name}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if self.fields:
            default = ROOT / "studies" / "results" / f"{self.name}.csv"
            words = "CSV file of the rows [studies/results]; cases that it holds are not repeated"
            parser.add_argument("--output", type=pathlib.Path, default=default, help=words)
        pages = sorted({place.page for _, place in self.tables if place})
        if pages:
            words = f"write the table into {' and '.join(pages)}"
            parser.add_argument("--update", action="store_true", help=words)
        for flag, options in self.flags.items():
            parser.add_argument(f"--{flag}", **options)
        return parser.parse_args(arguments)

    def main(self, arguments: Sequence[str]) -> None:
        """Measures what the file of rows does not hold yet, then prints the tables.

        Args:
            arguments: Of the command line.
        """
        flags = self.parse(arguments)
        rows = read(flags.output) if self.fields else []
        for case in self.cases(flags, rows):
            if select(rows, **case):
                continue
            rows += map(as_text, self.measure(case))
            print(rows[-1], flush=True)
            write(flags.output, self.fields, rows)
        before = [dict(row) for row in rows]
        self.finish(flags, rows)
        if rows != before:
            write(flags.output, self.fields, rows)
        for make, place in self.tables:
            table = make(rows)
            print(f"{table}\n")
            if place and flags.update:
                place.put(table)
        print(environment())
