"""A real comparison, cut off and continued, for the tests of this package."""

import importlib
import os
import shutil
import signal

import pytest

from tfcredit import cli
from tfcredit.rules.registry import _RULES

SMALL = ["--model=fc", "--dataset=embedded", "--batch_size=2000", "--epochs=2"]
SMALL += ["--learning_rate=0.02"]
RULES = ["backprop", "mine"]
MINE = """
from tfcredit import rules


@rules.from_function("mine")
def mine(connection, x, y, dy, w, b):
    return 0.1 * (b - w)
"""


def compare(folder, *flags):
    """The code of a comparison of `RULES` in `folder`, of which a file registers one."""
    own = folder.parent / "own_rules.py"
    own.write_text(MINE)
    flags = [f"--import={own}", *flags]
    command = ["compare", f"--rules={','.join(RULES)}", "--seeds=2", "--jobs=2", *SMALL]
    return cli.main([*command, f"--compare_dir={folder}", *flags])


def import_comparing():
    """The module, which needs an extra, `plots`."""
    pytest.importorskip("matplotlib", reason="an extra, `plots`")
    return importlib.import_module("tfcredit.comparison.comparing")


def leave_out_check(patch):
    patch.setattr(import_comparing(), "check", lambda recipes: ({"dataset": "embedded"}, {}))


@pytest.fixture(scope="package")
def compared(tmp_path_factory):
    """The folder of a comparison that was stopped at the end of its first run, and continued."""
    folder = tmp_path_factory.mktemp("compared") / "a comparison"
    comparing = import_comparing()
    with pytest.MonkeyPatch.context() as patch:
        end = comparing.Runs.ended

        def end_and_stop(*arguments):
            end(*arguments)
            os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(comparing.Runs, "ended", end_and_stop)
        assert compare(folder) == 0
    assert 1 <= len(list(folder.glob("runs/*/*/summary.json"))) < 4
    with pytest.MonkeyPatch.context() as patch:
        leave_out_check(patch)
        assert compare(folder) == 0
    _RULES.pop("mine")  # for the tests of other modules
    return folder


@pytest.fixture
def unchecked(monkeypatch):
    """Leaves out the process that checks flags; it takes seconds."""
    leave_out_check(monkeypatch)


@pytest.fixture
def folder(compared, unchecked, tmp_path):
    """A copy of a comparison that has ended."""
    yield shutil.copytree(compared, tmp_path / "a comparison")
    _RULES.pop("mine", None)
