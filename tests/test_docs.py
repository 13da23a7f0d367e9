"""The tutorial runs, and what the documentation shows is what its scripts give."""

import base64
import csv
import io
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="an extra, `plots`")
from PIL import Image

from studies import opening_figure

ROOT = Path(__file__).resolve().parents[1]
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


def rows_of_the_opening_figure():
    with (ROOT / "studies" / "results" / "opening_figure.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_opening_figure_shows_means_and_ranges_of_three_seeds():
    rows = rows_of_the_opening_figure()
    accuracy, angle = opening_figure.draw(rows).axes
    names = [line.get_label() for line in accuracy.get_lines()]
    assert names == opening_figure.RULES and len(angle.get_lines()) == len(names) - 1
    index = names.index("calibrated_mirror")
    mine = [row for row in rows if row["rule"] == "calibrated_mirror" and row["step"] == "62"]
    assert sorted(row["seed"] for row in mine) == ["0", "1", "2"]
    for axes, place, column, scale in [
        (accuracy, index, "top1", 100),
        (angle, index - 1, "mean_angle", 1),
    ]:
        values = [scale * float(row[column]) for row in mine]
        steps, means = axes.get_lines()[place].get_data()
        assert list(steps) == list(range(0, 373, 31))
        assert means[2] == pytest.approx(statistics.mean(values))
        (band,) = axes.collections[place].get_paths()
        edges = [y for x, y in band.vertices if x == 62]
        assert [min(edges), max(edges)] == pytest.approx([min(values), max(values)])


def test_the_opening_figure_is_that_of_the_stored_numbers(tmp_path):
    path = tmp_path / "opening.svg"
    opening_figure.save(rows_of_the_opening_figure(), path)

    def curves(text):
        return re.findall(r'<path d="(M [^"]+)" clip-path', text)

    stored = (ROOT / "docs" / "opening.svg").read_text()
    assert len(curves(stored)) >= 13 and curves(path.read_text()) == curves(stored)


@pytest.mark.slow
def test_a_run_of_the_opening_figure():
    rows = opening_figure.train("calibrated_mirror", 0)
    assert [row["step"] for row in rows] == list(range(0, 373, 31))
    # 5 degrees are asked for; W, which B follows with a lag, still moves.
    assert rows[0]["mean_angle"] > 80 and 4 < rows[-1]["mean_angle"] < 6 and rows[-1]["top1"] > 0.7
