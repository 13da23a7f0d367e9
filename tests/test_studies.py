"""The entry of the studies, and what all of them share: rows that are kept, tables in pages."""

import importlib
import subprocess
import sys

import pytest

from studies import BASELINE
from studies import __main__ as entry
from studies.study import Study
from studies.table import Place, read
from tests.conftest import ROOT
from tfcredit import rules
from tfcredit.errors import UserError
from tfcredit.records import markdown

PAGE = "above\n<!-- TABLE:made_up -->\n\nold\n\n<!-- END -->\nbelow\n"


def test_the_list_names_every_study_and_imports_none():
    script = "import sys; from studies.__main__ import listing; print(listing())"
    script += "; assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert listed == list(entry.NAMES)


def test_an_unknown_study_is_refused(capsys):
    assert entry.main(["stabilty"]) == 2
    assert "no study 'stabilty': choose of architectures," in capsys.readouterr().err


@pytest.mark.parametrize("name", entry.TABLES)
def test_a_study_that_compares_accuracies_has_the_baseline(name):
    study = importlib.import_module(f"studies.{name}").STUDY
    if not {"top1", "solved"} & {*study.fields} or name == "comparison":  # which has no cases
        return
    by_network = {}
    for case in study.cases(study.parse([]), []):
        if "rounds" not in case:  # steps are timed there
            network = case.get("network", case.get("layer"))
            by_network.setdefault(network, set()).add(case.get("rule", case.get("variant")))
    baseline = {BASELINE, repr(rules.get(BASELINE))}
    assert by_network and all(baseline & compared for compared in by_network.values())


def study_of(measured, page):
    """A made-up study that notes the cases it measures."""

    def measure(case):
        measured.append(case)
        return [case | {"value": value} for value in (0.5, None)]

    def finish(flags, rows):
        for row in rows:
            row["doubled"] = str(2 * float(row["value"] or 0))

    return Study(
        "made_up",
        "What it is.",
        [(lambda rows: markdown(list(rows[0]), [row.values() for row in rows]), page)],
        ["seed", "value", "doubled"],
        lambda flags, rows: ({"seed": seed} for seed in range(flags.seeds)),
        measure,
        finish,
        flags={"seeds": {"type": int, "default": 2}},
    )


def test_cases_are_measured_once(tmp_path):
    measured, page, output = [], tmp_path / "page.md", tmp_path / "results" / "rows.csv"
    page.write_text(PAGE)
    study = study_of(measured, Place("made_up", str(page)))
    study.main([f"--output={output}"])
    assert measured == [{"seed": 0}, {"seed": 1}] and page.read_text() == PAGE
    kept = read(output)
    assert kept[:2] == [
        {"seed": "0", "value": "0.5", "doubled": "1.0"},
        {"seed": "0", "value": "", "doubled": "0.0"},
    ]
    study.main([f"--output={output}", "--seeds=3", "--update"])
    assert measured == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert read(output)[:4] == kept and "| 2 | 0.5 | 1.0 |" in page.read_text()


def test_a_table_has_one_place_in_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    Place("made_up", str(page)).put("new")
    assert page.read_text() == PAGE.replace("old", "new")
    for text in ("no place", PAGE + PAGE, PAGE.replace("<!-- END -->", "")):
        page.write_text(text)
        with pytest.raises(UserError, match="has not one place <!-- TABLE:made_up -->"):
            Place("made_up", str(page)).put("new")
        assert page.read_text() == text
