"""The tutorial runs, and what the documentation shows is what its scripts give."""

import base64
import io
import re
import statistics
import subprocess
import sys

import nbformat
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="an extra, `plots`")
from PIL import Image

from studies import comparison
from studies.table import read
from tests.pages import ROOT, commands
from tfcredit.records import read_csv

RESULTS = ROOT / "docs" / "results.md"
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


def run(notebook, output):
    """Run a notebook in a process of its own, as `make tutorial` does."""
    command = [sys.executable, ROOT / "tools" / "run_tutorial.py"]
    command += [f"--notebook={notebook}", f"--output={output}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def pictures(cells):
    outputs = [output for cell in cells for output in cell.outputs]
    found = [
        output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in found]


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def check_results(cells):
    """Two figures with curves in them, and numbers that say what the words say."""
    assert len(pictures(cells)) == 2
    for picture in pictures(cells):
        drawn = picture[picture[..., 3] > 250][:, :3].astype(int)
        assert (np.ptp(drawn, axis=1) > 60).sum() > 500  # coloured
    lines = re.findall(r"(\w+) +accuracy (\S+) +error angle +(\S+)°", printed(cells[-1]))
    assert len(lines) == 5
    found = {name: (float(accuracy), float(angle)) for name, accuracy, angle in lines}
    assert found["backprop"][1] == 0.0 and 3.0 < found["calibrated_mirror"][1] < 15.0
    assert found["info_alignment"][1] > 40.0 and found["feedback_alignment"][1] > 40.0
    assert min(found["backprop"][0], found["calibrated_mirror"][0]) > 0.8


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    done = run(TUTORIAL, tmp_path / "run.ipynb")
    assert done.returncode == 0, done.stderr[-4000:]
    cells = code_cells(tmp_path / "run.ipynb")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    check_results(cells)


def test_the_tutorial_in_the_repository_has_results_and_nothing_of_the_machine():
    cells = code_cells(TUTORIAL)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    check_results(cells)
    assert all(cell.metadata == {} for cell in cells)
    assert all(output.get("name") != "stderr" for cell in cells for output in cell.outputs)
    metadata = nbformat.read(TUTORIAL, as_version=4).metadata
    assert set(metadata) == {"kernelspec", "language_info"}
    assert metadata.language_info == {"name": "python"}
    assert not any(re.search("/(home|root|tmp|usr|Users)/", printed(cell)) for cell in cells)


def test_a_cell_that_fails_fails_the_run(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    before = (tmp_path / "bad.ipynb").read_text()
    done = run(tmp_path / "bad.ipynb", tmp_path / "bad.ipynb")
    assert done.returncode != 0 and "ZeroDivisionError" in done.stderr
    assert (tmp_path / "bad.ipynb").read_text() == before


def test_the_opening_figure_is_that_of_the_stored_curves(tmp_path):
    comparison.draw(tmp_path / "opening.svg")

    def curves(path):
        return re.findall(r'<path d="(M [^"]+)" clip-path', path.read_text())

    stored = curves(ROOT / "docs" / "opening.svg")
    assert len(stored) >= 2 * len(comparison.DRAWN) - 1
    assert stored == curves(tmp_path / "opening.svg")


def test_stored_curves_end_where_the_stored_table_is():
    rows = {row["rule"]: row for row in read_csv(comparison.STUDY.parse([]).output)}
    curves = read_csv(comparison.CURVES)
    last = max(record["step"] for record in curves)
    for rule, row in rows.items():
        ends = [r for r in curves if r["rule"] == rule and r["step"] == last and not r["diverged"]]
        assert len(ends) == row["runs"] and {r["seed"] for r in ends} <= {0, 1, 2}
        assert statistics.mean(r["top1"] for r in ends) == pytest.approx(row["top1"])
        if "mean_angle" in row:  # backprop and `frozen` have no B
            assert statistics.mean(r["mean_angle"] for r in ends) == pytest.approx(
                row["mean_angle"], abs=1e-3
            )
    assert set(comparison.DRAWN) <= set(rows)


def test_results_are_those_of_the_stored_comparison():
    rows = read(comparison.STUDY.parse([]).output)
    for path in (ROOT / "README.md", RESULTS):
        assert comparison.table(rows) in path.read_text()
    (command,) = [line for line in commands(RESULTS) if line.startswith("tfcredit compare")]
    (rules_of,) = re.findall(r"--rules=(\S+)", command)
    assert sorted(rules_of.split(",")) == sorted(row["rule"] for row in rows)
    assert "--seeds=3" in command and {row["runs"] for row in rows} == {"3"}
