"""`--import`: rules and primitives of the user's own on the command line."""

import json
import sys

import keras
import pytest

from tfcredit import cli
from tfcredit.errors import UserError
from tfcredit.rules.registry import _RULES
from tfcredit.search import space
from tfcredit.training.imports import import_own
from tfcredit.training.recipe import parse

RULE = """
from beside import RATE
from tfcredit import rules


@rules.from_function("mine")
def mine(connection, x, y, dy, w, b):
    return RATE * (b - w)
"""
PRIMITIVE = """
from tfcredit import primitives


@primitives.register("quartic_of_mine", degree=4, reads="B")
def quartic(seen):
    return seen.b**3
"""
SMALL = ["--model=fc", "--steps=2", "--batch_size=16", "--dataset=embedded"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with a file of a rule, which imports the one beside it, and one of a primitive."""
    for name in ("beside", "mine", "own_primitives"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside.py").write_text("RATE = 0.1\n")
    (tmp_path / "mine.py").write_text(RULE)
    (tmp_path / "own_primitives.py").write_text(PRIMITIVE)
    return tmp_path


def test_a_run_of_a_rule_of_ones_own_repeats_itself(files, capsys):
    run = f"--run_dir={files / 'run'}"
    assert cli.train_main([*SMALL, f"--import={files / 'mine.py'}", "--rule=mine", run]) == 0
    summary = json.loads((files / "run" / "summary.json").read_text())
    assert summary["rule"] == "mine" and f"--import={files / 'mine.py'}" in summary["flags"]
    _RULES.pop("mine")  # as in another process, which knows the file from the run's flags
    capsys.readouterr()
    assert cli.train_main([run, "--mode=evaluate"]) == 0
    assert "test top-1" in capsys.readouterr().out


def test_a_module_and_several_files(files, monkeypatch):
    monkeypatch.chdir(files)
    import_own("mine, own_primitives.py")
    import_own("mine, own_primitives.py")  # as a process that trains several runs does
    recipe, _ = parse(["--rule=mine", "--import=mine,own_primitives.py"])
    expected = f"--import=mine,{files / 'own_primitives.py'}"
    assert expected in recipe.flagfile().splitlines()
    from tfcredit import rules

    assert rules.get("0.1*quartic_of_mine + decay").coefficients["quartic_of_mine"] == 0.1
    # Of a search's best trial, too.
    best = space.apply({"learning_rate": 0.5}, recipe)
    assert expected in best.flagfile().splitlines()


# content of the file -> words of the refusal
MISTAKES = {
    "x = 1\nraise RuntimeError('no luck')\n": ["RuntimeError at line 2 (no luck)", "mend it"],
    "def f(:\n": ["SyntaxError"],
    "import nothing_like_this\n": ["ModuleNotFoundError at line 1", "nothing_like_this"],
    "import sys\nsys.exit(3)\n": ["SystemExit at line 2 (3)"],
    "import tfcredit\n": ["registers no rule, no primitive and no class", "rules.from_function"],
}


@pytest.mark.parametrize("content", MISTAKES)
def test_an_import_that_fails_is_told_in_a_sentence(content, tmp_path, capsys):
    file = tmp_path / "own.py"
    file.write_text(content)
    command = [*SMALL, f"--import={file}", f"--run_dir={tmp_path / 'run'}"]
    assert cli.train_main(command) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"--import={file}" in told
    assert all(word in told for word in MISTAKES[content])
    assert not (tmp_path / "run").exists()


def test_a_file_may_register_layers_alone(tmp_path):
    (tmp_path / "own_layers.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable('test_imports')\n"
        "class Doubled(keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n"
    )
    import_own(str(tmp_path / "own_layers.py"))
    assert "test_imports>Doubled" in keras.saving.get_custom_objects()


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="none.py is no file"):
        import_own(str(tmp_path / "none.py"))
    with pytest.raises(UserError, match="--import=no_such_module is no module that Python finds"):
        import_own("no_such_module")


def test_an_unknown_rule_names_the_flag(tmp_path, capsys):
    assert cli.train_main([*SMALL, "--rule=mine", f"--run_dir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert "'mine' is unknown" in told and "--import=FILE.py" in told
