"""README's results and opening figure: what `tfcredit compare` finds on the embedded images.

docs/results.md has the command that trains. Then

    python -m studies comparison --compare_dir=runs/embedded --update

takes the table and the curves out of the comparison's folder into studies/results, writes the
tables into README and docs/results.md, and draws docs/opening.svg. Without `--compare_dir` it draws
and writes what studies/results holds.
"""

import argparse
import pathlib
import shutil

import matplotlib

from studies import ROOT
from studies.study import Rows, Study
from studies.table import Place, read
from tfcredit.analysis import plots
from tfcredit.errors import UserError
from tfcredit.records import markdown, read_csv
from tfcredit.report.groups import cells, heads

DRAWN = ["backprop", "tracking_mirror", "symmetric_alignment", "calibrated_mirror"]
DRAWN += ["activation_alignment", "info_alignment", "weight_mirror", "feedback_alignment"]
"""The rules of the figure: more lines could not be told apart."""
FIELDS = ["rule", "runs", "top1", "top1_low", "top1_high", "gap", "gap_low", "gap_high"]
FIELDS += ["mean_angle", "time", "diverged"]
CURVES = ROOT / "studies" / "results" / "comparison_curves.csv"


def table(rows: Rows) -> str:
    """Top-1, gap and angle as Markdown, best rule first.

    Times are left out: runs one after the other on a shared machine do not tell them
    (docs/performance.md).
    """
    records = [
        {name: row[name] if name == "rule" else _number(row[name]) for name in row} for row in rows
    ]
    records.sort(key=lambda record: -(record["top1"] or 0.0))
    shown = [0, 2, 3, 4]  # rule, top-1, gap, angle
    lines = [cells({**record, "rule": f"`{record['rule']}`"}) for record in records]
    return markdown([heads()[i] for i in shown], [[line[i] for i in shown] for line in lines])


def _number(text: str) -> float | None:
    return float(text) if text else None


def draw(path: pathlib.Path) -> None:
    """Draws the figure out of the kept curves into a file: the same bytes for the same numbers."""
    records = [record for record in read_csv(CURVES) if record["rule"] in DRAWN]
    records.sort(key=lambda record: DRAWN.index(record["rule"]))
    with matplotlib.rc_context({"svg.hashsalt": "tfcredit"}):
        plots.compare(records).savefig(path, metadata={"Date": None})


def finish(flags: argparse.Namespace, rows: Rows) -> None:
    """Takes what a comparison's folder holds, and draws the figure if pages are updated."""
    folder = flags.compare_dir
    if folder is not None:
        if not (folder / "compare.csv").exists():
            raise UserError(
                f"--compare_dir={folder} holds no compare.csv: give the folder of a comparison."
            )
        rows[:] = read(folder / "compare.csv")
        shutil.copyfile(folder / "curves.csv", CURVES)
    if flags.update:
        draw(ROOT / "docs" / "opening.svg")


STUDY = Study(
    "comparison",
    __doc__,
    [(table, Place("comparison", "docs/results.md")), (table, Place("results", "README.md"))],
    FIELDS,
    finish=finish,
    flags={"compare_dir": {"type": pathlib.Path}},
)
