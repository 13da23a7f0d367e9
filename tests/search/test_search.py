"""The command `tfcredit search`: real searches, cut off and continued, and scripted trials."""

import csv
import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from PIL import Image

from tests.conftest import ROOT
from tests.search.scripted import Scripted
from tests.test_cli import full_disk
from tfcredit import cli
from tfcredit.errors import UserError
from tfcredit.report import find_runs
from tfcredit.search import space
from tfcredit.search.launcher import Launcher
from tfcredit.search.space import Parameter
from tfcredit.search.study import Study, outcome
from tfcredit.seeding import derive
from tfcredit.training import launcher
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.run_directory import RunDirectory

SMALL = ["--rule=weight_mirror", "--model=fc", "--dataset=embedded", "--batch_size=1000"]
SMALL += ["--epochs=2", "--optimizer=sgd", "--deterministic", "--seed=5"]
SPACE = {"learning_rate": {"choices": [0.05, 1e8]}, "amp": {"low": 1e-4, "high": 1e-2, "log": True}}


def search(folder, *flags):
    """The code of a search of `SMALL` in `folder`."""
    file = folder.parent / "space.json"
    file.write_text(json.dumps(SPACE))
    return cli.main(["search", *SMALL, f"--space={file}", f"--study_dir={folder}", *flags])


def table(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a search that was stopped at the end of its first trial, and continued."""
    folder = tmp_path_factory.mktemp("searched") / "study #?% [x]&a=b"  # a name as any
    with pytest.MonkeyPatch.context() as patch:
        write = Study.write_results

        def write_and_stop(study):
            write(study)
            os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(Study, "write_results", write_and_stop)
        assert search(folder, "--trials=3", "--jobs=2") == 0
    assert [row["outcome"] for row in table(folder)].count("running") == 1
    assert not (folder / "plots").exists()
    assert search(folder, "--trials=3", "--jobs=2") == 0
    return folder


def test_a_stopped_search_goes_on_to_the_number_of_trials(searched):
    rows = table(searched)
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert sorted(row["outcome"] for row in rows) == ["diverged", "finished", "finished"]
    for row in rows:
        recipe, _ = parse(
            (searched / f"trials/{int(row['trial']):04}/flags.txt").read_text().split()
        )
        assert recipe.amp == float(row["amp"]) and 1e-4 <= recipe.amp <= 1e-2
        assert recipe.learning_rate == float(row["learning_rate"])
        assert recipe.seed == derive(5, "trial", int(row["trial"]))
        assert (float(row["top1"]) == 0.0) == (row["outcome"] == "diverged")
        assert (recipe.learning_rate == 1e8) == (row["outcome"] == "diverged")


def test_trials_are_runs(searched):
    found = {run.name: run for run in find_runs([searched])}
    assert set(found) == {"0000", "0001", "0002"}
    for row in table(searched):
        run = found[f"{int(row['trial']):04}"]
        if row["outcome"] == "finished":
            assert run.state == "finished" and run.summary["top1"] == float(row["top1"])
            assert [r["epoch"] for r in run.rows] == [1, 2]
            database = sqlalchemy.URL.create("sqlite", database=str(searched / "study.db"))
            study = optuna.load_study(study_name=None, storage=str(database))
            reported = study.trials[int(row["trial"])].intermediate_values
            assert reported == {i + 1: r["test_top1"] for i, r in enumerate(run.rows)}


@pytest.mark.slow
def test_the_best_flagfile_repeats_the_best_trial(searched, tmp_path):
    best = max(table(searched), key=lambda row: float(row["top1"]))
    file = searched / "best.cfg"
    assert file.read_text().startswith(f"# Trial {best['trial']} of 3: test top-1 ")
    run = tmp_path / "run"
    assert cli.train_main([f"--flagfile={file}", f"--run_dir={run}"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    # Trials had half of the threads, which changes the order of sums.
    assert summary["top1"] == pytest.approx(float(best["top1"]), abs=0.01)


def test_what_a_search_leaves(searched):
    with (searched / "importance.csv").open() as file:
        shares = {row["flag"]: float(row["importance"]) for row in csv.DictReader(file)}
    assert set(shares) == set(SPACE) and sum(shares.values()) == pytest.approx(1.0)
    for name in ("history", "slices", "parallel", "importance"):
        with Image.open(searched / "plots" / f"{name}.png") as image:
            assert image.size[0] > 300 and image.getpixel((0, 0))[3] == 0  # no background


def test_a_search_in_use_is_refused(searched, capsys):
    with RunDirectory(searched).locked():
        assert search(searched, "--trials=4") == 2
    told = capsys.readouterr().err
    assert f"{searched} is in use by process {os.getpid()}" in told and "--study_dir" in told


def study_in(folder, *flags, **space):
    recipe, _ = parse([*SMALL, *flags])
    space = space or {
        "learning_rate": Parameter(choices=(0.05, 1e8)),
        "amp": Parameter(1e-4, 1e-2, log=True),
    }
    return Study(folder, recipe, space)


# what is asked for -> words of the refusal
OTHERS = {
    "rule": (["--rule=info_alignment"], {}, ["--rule=weight_mirror, not info_alignment"]),
    "epochs": (["--epochs=3"], {}, ["--epochs=2.0, not 3.0"]),
    "seed": (["--seed=1"], {}, ["--seed=5, not 1"]),
    "parameter": ([], {"amp": Parameter(1e-4, 1e-2, True)}, ["learning_rate in", "not in none"]),
    "range": (
        [],
        {"learning_rate": Parameter(choices=(0.05, 1e8)), "amp": Parameter(1e-4, 1.0, True)},
        ["amp in", "0.01", "'high': 1.0"],
    ),
}


@pytest.mark.parametrize(("flags", "space", "words"), OTHERS.values(), ids=OTHERS)
def test_another_search_is_not_mixed_in(searched, flags, space, words):
    study_in(searched).check()
    study_in(searched, "--keep=1").check()  # of a start, not of the search
    with pytest.raises(UserError) as told:
        study_in(searched, *flags, **space).check()
    assert all(word in str(told.value) for word in [*words, str(searched), "--study_dir"])


def test_foreign_folders_and_damaged_studies(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="holds no search of tfcredit.*nothing was touched"):
        study_in(tmp_path).check()
    with pytest.raises(UserError, match="thesis.tex is a file"):
        study_in(tmp_path / "thesis.tex").check()
    for name in ("study.json", "study.db", "lock"):
        os.mkfifo(tmp_path / name)  # who reads it waits for ever
        with pytest.raises(UserError, match=f"{name} is no regular file"):
            study_in(tmp_path).check()
        (tmp_path / name).unlink()
    (tmp_path / "study.db").write_bytes(b"no database")
    with pytest.raises(UserError, match="study.db is damaged.*not a database.*--study_dir"):
        study_in(tmp_path).check()
    with (
        pytest.raises(UserError, match="/proc/none can't be written"),
        study_in("/proc/none").locked(),
    ):
        pass


# flags -> words that the sentence must hold
MISTAKES = {
    "--trials=0": ["--trials=0", "at least 1"],
    "--jobs=0": ["--jobs=0", "at least 1"],
    "--jobs=two": ["jobs", "two"],
    "--space=/nowhere.json": ["/nowhere.json"],
    "--rule=weight_miror": ["weight_miror", "weight_mirror"],
    "--null=1": ["null", "amp, decay"],
    "--epochs=0": ["--epochs=0", "greater than 0"],
    "--run_dir=a": ["--run_dir is for a single run", "--study_dir"],
    "--mode=train": ["--mode is for a single run"],
    "--resume=auto": ["--resume is for a single run"],
    "--trails=3": ["trails", "--help"],
    "--model=fcc": ["fcc", "fc"],
    "--dataset=imagenet --data_dir=/nowhere": ["/nowhere", "train-*"],
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_a_mistake_is_one_sentence_before_any_file(flags, tmp_path, capsys):
    folder = tmp_path / "study"
    command = ["search", "--rule=weight_mirror", f"--study_dir={folder}", *flags.split()]
    assert cli.main(command) == 2
    told = capsys.readouterr().err
    assert told.startswith("tfcredit search: ") and told.count("\n") == 1
    assert all(word in told for word in MISTAKES[flags])
    assert not folder.exists()


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit):
        cli.main(["search", "--help"])
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--space", "--trials", "--jobs", "--study_dir"))


@pytest.mark.parametrize("name", ["optuna", "matplotlib"])
def test_a_missing_package_is_told(name, capsys, monkeypatch):
    for module in [module for module in sys.modules if module.startswith("tfcredit.search")]:
        monkeypatch.delitem(sys.modules, module)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == name else find(n, *a)
    )
    assert cli.main(["search"]) == 2
    assert "pip install 'tfcredit[search]'" in capsys.readouterr().err


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """Runs trials by their scripts; gives the study."""
    monkeypatch.setattr(launcher, "RunProcess", Scripted)

    def run(scripts, jobs=1, part="test"):
        Scripted.part = part
        Scripted.scripts = {number: [*script] for number, script in enumerate(scripts)}
        Scripted.started = []
        space = {"amp": Parameter(1e-4, 1e-2, log=True), "width": Parameter(4, 64)}
        study = Study(tmp_path / "study", Recipe(rule="weight_mirror", model="resnet8"), space)
        with study.opened():
            assert Launcher(study, len(scripts), jobs).run()
            return study, study.ended()

    return run


def test_trials_that_choose_their_images_may_have_others(tmp_path):
    known = {"name": "folder", "training": 8}

    def expected(name):
        space = {name: Parameter(8, 64)}
        return Launcher(Study(tmp_path, Recipe(), space, known), 1, 1).images

    assert expected("width") == expected("batch_size") == known
    assert expected("image_size") == expected("validation_examples") == {}


def test_trials_below_the_median_are_pruned(scripted):
    good = [([0.5, 0.8], "finished")]
    study, ended = scripted([good] * 5 + [[([0.4, 0.9], "finished")], [([0.6, 0.7], "finished")]])
    assert [outcome(t) for t in ended] == ["finished"] * 5 + ["pruned", "finished"]
    assert ended[5].intermediate_values == {1: 0.4} and ended[5].value == 0.4
    assert study.best_flags.read_text().startswith("# Trial 0 of 7")  # the first of equals


def test_a_divergence_has_the_worst_value(scripted):
    study, (diverged, finished) = scripted([[([0.5], "diverged")], [([0.1, 0.2], "finished")]])
    assert (diverged.state, diverged.value) == (TrialState.COMPLETE, 0.0)
    assert diverged.user_attrs["diverged"] == "a sentence"
    assert study.best_flags.read_text().startswith("# Trial 1 of 2: test top-1 0.2000\n")


def test_a_crash_is_tried_once_more(scripted, capsys):
    crash = ([0.5], "crashed")
    _, ended = scripted([[crash, ([0.5, 0.6], "finished")], [crash, crash]])
    assert Scripted.started == [0, 0, 1, 1]
    assert [outcome(t) for t in ended] == ["finished", "failed"]
    assert "trial 1: failed, see" in capsys.readouterr().out


def test_a_mistake_ends_the_search_which_can_go_on(scripted):
    with pytest.raises(UserError, match="trial 1 can't be run: a sentence"):
        scripted([[([0.5], "finished")], [([], "mistake")], [([0.3], "finished")]])
    _, ended = scripted([[], [([0.7], "finished")], [([0.3], "finished")]])
    assert Scripted.started == [1, 2]
    assert [t.value for t in ended] == [0.5, 0.7, 0.3]


@pytest.mark.slow
def test_a_search_continued_tries_what_an_undisturbed_one_tries(scripted, tmp_path):
    accuracies = [0.1 + 0.03 * i for i in range(14)]  # more than are drawn at random
    scripts = [[([accuracy], "finished")] for accuracy in accuracies]
    whole = [t.params for t in scripted(scripts)[1]]
    (tmp_path / "study").rename(tmp_path / "whole")
    for count in (6, 12, 14):
        _, ended = scripted(scripts[:count])
    assert [t.params for t in ended] == whole
    assert len({tuple(params.values()) for params in whole}) == 14


@pytest.mark.slow
def test_a_full_disk_is_told_and_keeps_what_there_is(scripted):
    scripts = [[([0.5] * 20, "finished")]] * 9
    study, _ = scripted(scripts[:1])
    room = study.database.stat().st_size
    with pytest.raises(UserError, match="study can't be written.*--study_dir"), full_disk(room):
        scripted(scripts)
    _, ended = scripted(scripts)
    assert [len(trial.intermediate_values) for trial in ended] == [20] * 9


COMMAND = "import sys; from tfcredit.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_kills_at_any_instant_change_nothing(tmp_path):
    file = tmp_path / "space.json"
    file.write_text(json.dumps(SPACE))
    flags = [*SMALL, f"--space={file}", "--trials=3", "--checkpoint_every_steps=5"]

    def start(folder):
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "search", *flags, f"--study_dir={folder}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(process):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]

    def results(folder):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in table(folder)]

    finish(start(tmp_path / "whole"))
    # As the first trial starts, in both epochs of the second, and as the third starts.
    places = ["study.db", "trials/0001/checkpoints/checkpoint", "trials/0001/metrics.csv"]
    places += ["trials/0002.log"]
    for place in places:
        process = start(tmp_path / "killed")
        deadline = time.time() + 300
        while not (tmp_path / "killed" / place).exists():
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()  # waits for its children too, which hold the pipe
        directories = [RunDirectory(p) for p in (tmp_path / "killed").glob("trials/????")]
        assert not any(directory.is_locked() for directory in directories)
    finish(start(tmp_path / "killed"))
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    logs = "".join(p.read_text() for p in (tmp_path / "killed").glob("trials/*.log"))
    assert re.search("Continuing at step", logs)


PAGE = (pathlib.Path(ROOT) / "docs/search.md").read_text()


def test_the_pages_command_and_spaces_are_understood(tmp_path):
    own = ("--space", "--trials", "--jobs", "--study_dir", "--storage")
    commands = re.findall(r"^    tfcredit search (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    for command in reversed(commands):
        recipe, given = parse([flag for flag in command.split() if not flag.startswith(own)])
    first, second = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "space.toml"
    path.write_text(first)
    assert len(space.get(str(path), recipe, given)) == 3
    path.write_text(second)
    assert set(space.get(str(path), Recipe(rule="calibrated_mirror"), set())) == {"rule.angle"}


def test_the_page_states_the_built_in_ranges():
    stated = {}
    for names, ranges, scale in re.findall(r"^\| (`.*`) \| (.*) \| (log|linear) \|$", PAGE, re.M):
        for name in re.findall(r"`(\w+)`", names):
            stated[name] = ranges, scale
    for rule in space.ARGUMENTS:
        own = {k: v for k, v in space.built_in(rule).items() if k.startswith("rule.")}
        ranges = ", ".join(f"{k[5:]} {one.low} to {one.high}" for k, one in own.items())
        assert stated[rule] == (ranges, "log" if all(v.log for v in own.values()) else "linear")


def test_held_out_images_choose_and_the_test_is_told_once(scripted):
    study, ended = scripted(
        [[([0.5, 0.6], "finished")], [([0.9, 0.7], "finished")]], 1, "validation"
    )
    assert [trial.value for trial in ended] == [0.6, 0.7]
    assert ended[1].intermediate_values == {1: 0.9, 2: 0.7}
    results = {"step": 2, "top1": 0.65, "top5": 1.0, "loss": 1.0, "data": "", "angles": {}}
    results |= {"mean_angle": None, "validation_top1": 0.7}
    (study.run_of(1) / "summary.json").write_text(json.dumps(results))
    study.write_results()
    first = study.best_flags.read_text().splitlines()[0]
    assert first == "# Trial 1 of 2: validation top-1 0.7000, test top-1 0.6500"
