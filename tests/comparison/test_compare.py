"""The command `tfcredit compare`: a real comparison, cut off and continued, and scripted runs."""

import csv
import json
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from multiprocessing import forkserver

import pytest

pytest.importorskip("matplotlib", reason="an extra, `plots`")
from PIL import Image

import tfcredit
from tests.comparison.conftest import RULES, SMALL, compare
from tests.conftest import ROOT
from tests.report.test_report import Page
from tfcredit import cli
from tfcredit.comparison.folder import Comparison
from tfcredit.errors import UserError
from tfcredit.report import find_runs
from tfcredit.training import launcher, processes
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.run_directory import RunDirectory


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder, rule, seed):
    return json.loads((folder / "runs" / rule / f"seed{seed}" / "summary.json").read_text())


def test_the_table_is_of_the_runs(compared):
    base, other = table(compared / "compare.csv")
    assert [base["rule"], other["rule"]] == RULES
    top1 = {rule: [summary(compared, rule, seed)["top1"] for seed in (0, 1)] for rule in RULES}
    for row in (base, other):
        assert row["runs"] == "2" and row["diverged"] == "0" and float(row["time"]) > 0
        assert float(row["top1"]) == pytest.approx(statistics.mean(top1[row["rule"]]))
        assert float(row["top1_low"]) <= float(row["top1"]) <= float(row["top1_high"])
    gaps = [first - second for first, second in zip(*top1.values(), strict=True)]
    assert float(other["gap"]) == pytest.approx(statistics.mean(gaps))
    # Student's t of two values: 12.706 standard errors to each side.
    half = 12.706 * abs(gaps[0] - gaps[1]) / 2
    assert float(other["gap_high"]) - float(other["gap"]) == pytest.approx(half, rel=1e-3)
    angles = [summary(compared, "mine", seed)["mean_angle"] for seed in (0, 1)]
    assert float(other["mean_angle"]) == pytest.approx(statistics.mean(angles), abs=1e-3)
    assert base["gap"] == base["mean_angle"] == "" and base["time"] == "1.0"


def test_the_runs_are_those_of_the_flags(compared):
    found = find_runs([compared])
    assert {(run.recipe.rule, run.recipe.seed) for run in found} == {
        (rule, seed) for rule in RULES for seed in (0, 1)
    }
    common, _ = parse([*SMALL, "--rule=backprop"])
    names = ("model", "dataset", "batch_size", "epochs", "learning_rate")
    for run in found:
        assert run.state == "finished"
        assert all(getattr(run.recipe, name) == getattr(common, name) for name in names)
        assert run.recipe.import_ == str(compared.parent / "own_rules.py")  # repeats the run


def test_figure_page_and_markdown_show_the_table(compared):
    text = (compared / "compare.md").read_text()
    page = Page((compared / "report.html").read_text())
    for row in table(compared / "compare.csv"):
        shown = f"{100 * float(row['top1']):.1f} ["
        assert shown in text and shown in "".join(page.words)
    assert [cells[0].split()[-1] for cells in page.rows[1:3]] == RULES
    with Image.open(compared / "compare.png") as image:
        assert image.size[0] > 600 and image.getpixel((0, 0))[3] == 0  # no background
    assert (compared / "compare.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.every(2)
def test_the_same_command_trains_nothing_again_and_gives_the_same(compared, unchecked, capsys):
    before = {path: path.stat().st_mtime_ns for path in compared.glob("runs/**/*")}
    rows = table(compared / "curves.csv")
    flags = dict(flag[2:].split("=") for flag in SMALL)
    flags["import_"] = compared.parent / "own_rules.py"
    records = tfcredit.compare(RULES, seeds=2, compare_dir=compared, **flags)
    assert "of which 4 have ended" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in compared.glob("runs/**/*")} == before
    assert table(compared / "curves.csv") == rows
    assert [[r["rule"], r["seed"], r["epoch"]] for r in records] == [
        [rule, seed, epoch] for rule in RULES for seed in (0, 1) for epoch in (0, 1, 2)
    ]
    for record in records:
        if record["epoch"] == 2:
            found = summary(compared, record["rule"], record["seed"])
            assert record["top1"] == pytest.approx(found["top1"]) and not record["diverged"]


def comparison(folder, *flags, rules=RULES, seeds=2):
    return Comparison(folder, parse([*SMALL, *flags])[0], rules, seeds)


# what is asked for -> words of the refusal, none if it is taken
OTHERS = {
    "epochs": ({"epochs": 3.0}, {}, ["--epochs=2.0, not 3.0"]),
    "network": ({"model_digest": "b"}, {}, ["another network than --model gives now", "b"]),
    "of a start": ({"keep": 1}, {}, []),
    "more rules": ({}, {"rules": ["sign_symmetry", *RULES]}, []),
    "fewer rules": ({}, {"rules": ["backprop"]}, ["mine"]),
    "more seeds": ({}, {"seeds": 3}, []),
    "fewer seeds": ({}, {"seeds": 1}, ["2 seeds, not 1"]),
}


@pytest.mark.parametrize(("flags", "what", "words"), OTHERS.values(), ids=OTHERS)
def test_another_comparison_is_not_mixed_in(compared, flags, what, words):
    recipe, _ = parse(json.loads((compared / "compare.json").read_text())["flags"])
    recipe = Recipe(**{**vars(recipe), **flags})
    one = Comparison(compared, recipe, what.get("rules", RULES), what.get("seeds", 2))
    if not words:
        one.check()
        return
    with pytest.raises(UserError) as told:
        one.check()
    assert all(word in str(told.value) for word in [*words, str(compared), "--compare_dir"])


def test_foreign_folders_and_damaged_comparisons(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="holds no comparison of tfcredit.*nothing was touched"):
        comparison(tmp_path).check()
    for content in ("{", "[]", '{"rules": 3}', "{}"):
        (tmp_path / "compare.json").write_text(content)
        with pytest.raises(UserError, match="compare.json is damaged"):
            comparison(tmp_path).check()


def test_a_comparison_in_use_is_refused(compared, unchecked, capsys):
    with RunDirectory(compared).locked():
        assert compare(compared) == 2
    told = capsys.readouterr().err
    assert f"{compared} is in use by process {os.getpid()}" in told and "--compare_dir" in told


# flags -> words that the sentence must hold
MISTAKES = {
    "--rules=backprop,weight_miror": ["weight_miror", "did you mean 'weight_mirror'"],
    "--rules=backprop,weight_mirror(nul=1)": ["nul"],
    "--rules=backprop,": ["--rules=backprop,", "between two commas"],
    "--rules=backprop,info_alignment,backprop": ["names backprop twice"],
    "--rules=backprop --seeds=0": ["--seeds=0", ">= 1"],
    "--rules=backprop --jobs=0": ["--jobs=0", ">= 1"],
    "--rules=backprop --seeds=two": ["seeds", "two"],
    "--rules=backprop --rule=backprop": ["--rule is for a single run", "--rules"],
    "--rules=backprop --seed=1": ["--seed is for a single run", "--seeds"],
    "--rules=backprop --resume=auto": ["--resume is for a single run", "--compare_dir"],
    "--rules=backprop --mode=train": ["--mode is for a single run"],
    "--rules=backprop,info_alignment --amp=1": ["--amp", "--rule=backprop"],
    "--rules=backprop --epochs=0": ["--epochs=0", "greater than 0"],
    "--rules=backprop --seds=3": ["seds", "--help"],
    "--rules=backprop --model=fcc": ["fcc", "fc"],
    "--seeds=2": ["--rules", "--help"],
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_a_mistake_is_one_sentence_before_any_file(flags, tmp_path, capsys):
    folder = tmp_path / "compared"
    assert cli.main(["compare", f"--compare_dir={folder}", *flags.split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tfcredit compare: ") and told.count("\n") == 1
    assert all(word in told for word in MISTAKES[flags])
    assert not folder.exists()


def test_rules_in_python_are_a_list(tmp_path):
    with pytest.raises(UserError, match="rules='backprop' must be a list"):
        tfcredit.compare("backprop", compare_dir=tmp_path / "none")


class Scripted:
    """In the place of a run's process: ends as its script says.

    A script is a list of words, one for each start of the run: "finished" with its accuracy, or
    one of a `RunProcess`' messages.
    """

    scripts: dict[str, list] = {}
    places: list[tuple[int, int]] = []

    def __init__(self, recipe, log, place, places):
        self.recipe, self.place = recipe, place
        self.places.append((place, places))
        self.word = self.scripts[f"{recipe.rule} {recipe.seed}"].pop(0)
        self.connection, theirs = multiprocessing.Pipe()
        theirs.send(None)  # there is something to hear
        folder = RunDirectory(recipe.run_dir)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.flags.write_text(recipe.flagfile())
        folder.metrics.write_text("epoch,step,test_top1,test_loss\n1,6,0.5,1.0\n")
        if self.word == "diverged":
            folder.diverged.write_text("a sentence")
        elif isinstance(self.word, float):
            results = {"top1": self.word, "top5": 1.0, "loss": 1.0, "mean_angle": 9.0}
            summary = {"step": 6, "data": "embedded", "angles": {}, **results}
            folder.summary.write_text(json.dumps(summary))

    def hear(self):
        return (
            ("finished", self.word) if isinstance(self.word, float) else (self.word, "a sentence")
        )

    def answer(self, word):
        self.word = "stopped"

    def join(self):
        pass


@pytest.fixture
def scripted(tmp_path, unchecked, monkeypatch):
    """Compares backprop and sign_symmetry by scripts; gives rows of the table and the records."""
    monkeypatch.setattr(launcher, "RunProcess", Scripted)
    Scripted.places = []

    def run(jobs=1, **scripts):
        Scripted.scripts = {name.replace("_at_", " "): script for name, script in scripts.items()}
        folder = tmp_path / "compared"
        rules = ["backprop", "sign_symmetry"]
        records = tfcredit.compare(rules, seeds=2, jobs=jobs, compare_dir=folder, model="fc")
        return table(folder / "compare.csv"), records

    return run


def test_a_run_that_diverged_counts_as_such_and_in_no_mean(scripted, capsys):
    (base, other), records = scripted(
        **{"backprop 0": [0.8], "backprop 1": [0.7]},
        **{"sign_symmetry 0": ["diverged"], "sign_symmetry 1": [0.6]},
    )
    assert (other["runs"], other["diverged"], base["diverged"]) == ("1", "1", "0")
    assert float(other["top1"]) == 0.6 and float(other["gap"]) == pytest.approx(0.1)
    assert other["gap_low"] == ""  # of a single pair there is no interval
    assert {(r["rule"], r["seed"]) for r in records if r["diverged"]} == {("sign_symmetry", 0)}
    assert "sign_symmetry, seed 0: diverged" in capsys.readouterr().out
    scripted()  # nothing is trained again, or there would be no script


def test_a_crash_is_tried_again_and_told_at_the_end(scripted, tmp_path):
    finished = {"backprop 0": [0.8], "backprop 1": ["crashed", 0.7], "sign_symmetry 1": [0.6]}
    with pytest.raises(UserError, match=r"1 of 4 runs crashed \(see .*sign_symmetry/seed0.log\)"):
        scripted(**finished, **{"sign_symmetry 0": ["crashed", "crashed"]})
    base, other = table(tmp_path / "compared" / "compare.csv")
    assert (base["runs"], other["runs"]) == ("2", "1")
    (base, other), _ = scripted(**{"sign_symmetry 0": [0.65]})
    assert (base["runs"], other["runs"]) == ("2", "2")


def test_a_mistake_ends_the_comparison_which_can_go_on(scripted):
    with pytest.raises(UserError, match="sign_symmetry, seed 0 can't be run: a sentence"):
        scripted(**{"backprop 0": [0.8], "sign_symmetry 0": ["mistake"]})
    rest = {"backprop 1": [0.8], "sign_symmetry 0": [0.5], "sign_symmetry 1": [0.5]}
    rows, _ = scripted(**rest)
    assert [row["runs"] for row in rows] == ["2", "2"]


def test_jobs_have_places_of_their_own(scripted):
    one, more = {"backprop 0": [0.8], "backprop 1": [0.8]}, {"sign_symmetry 1": [0.8]}
    scripted(jobs=3, **one, **more, **{"sign_symmetry 0": [0.8]})
    assert set(Scripted.places[:3]) == {(0, 3), (1, 3), (2, 3)}


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--rules", "--seeds", "--jobs", "--compare_dir"))


SCRIPT = """
import sys
import tfcredit

tfcredit.compare(
    ["backprop", "feedback_alignment"], seeds=2, jobs=2, compare_dir=sys.argv[1], model="fc",
    dataset="embedded", epochs=2, batch_size=1000, deterministic=True, checkpoint_every_steps=5,
)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_killed_and_continued_to_the_same_numbers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(folder):
        return subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(process):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]

    def results(folder):
        rows = table(folder / "curves.csv")
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    finish(start(tmp_path / "whole"))
    places = ["backprop/seed0/checkpoints/checkpoint", "feedback_alignment/seed0/metrics.csv"]
    for place in [*places, "backprop/seed1.log"]:
        process = start(tmp_path / "killed")
        deadline = time.time() + 300
        while not (tmp_path / "killed" / "runs" / place).exists():
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()  # waits for its children too, which hold the pipe
    finish(start(tmp_path / "killed"))
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    logs = "".join(path.read_text() for path in (tmp_path / "killed").glob("runs/*/*.log"))
    assert re.search("Continuing at step", logs)


def keep_reporting(folder, output, is_over):
    """Reports on a folder again and again; an error ends the process."""
    is_last = False
    while not is_last:
        is_last = is_over.is_set()
        assert cli.main(["report", str(folder), f"--output={output}"]) == 0
        text = output.read_text()
        assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")


def test_reports_at_once_and_while_runs_train_are_whole(folder):
    """Three processes write one page."""
    shutil.rmtree(folder / "runs" / "backprop" / "seed0")
    page, is_over = folder / "report.html", processes.CONTEXT.Event()
    started = [processes._started(keep_reporting, folder, page, is_over) for _ in range(2)]
    try:
        assert compare(folder) == 0
    finally:
        is_over.set()
        for process in started:
            process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert [cells[1] for cells in Page(page.read_text()).rows[:3]] == ["runs", "2", "2"]
    assert not list(folder.glob(".partial-*"))


def test_signals_do_not_reach_the_server_of_the_runs(compared):
    """Schedulers send them to all processes of a command, which passes them on by itself."""
    recipe, _ = parse(["--model=fc", "--rule=backprop"])
    found = processes.check([recipe])
    server = forkserver._forkserver._forkserver_pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server, number)
    assert processes.check([recipe]) == found
    assert forkserver._forkserver._forkserver_pid == server
