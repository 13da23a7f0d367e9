"""Commands whose output can't be written: they go on, and tell what is lost."""

import os
import pathlib
import subprocess
import sys

import pytest

from tfcredit.screen import Screen

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "tfcredit"]


def called(*arguments, **streams):
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, timeout=120, **streams)


@pytest.fixture
def closed_pipe():
    """Its end for writing, when nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_a_reader_that_has_left_is_no_failure(arguments, closed_pipe):
    done = called(*arguments, stdout=closed_pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = called("--help", stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "No space left on device" in done.stderr
        assert called("nothing", stdout=full, stderr=full).returncode == 2


@pytest.mark.parametrize("numbers", ["1", "2", "0 1 2"])
def test_closed_streams(numbers):
    closing = " ".join(f"{number}>&-" for number in numbers.split())
    shell = f'exec "$0" "$@" {closing}'
    for flag, code in (("--help", 0), ("nothing", 2)):
        command = ["sh", "-c", shell, *COMMAND, flag]
        assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == code


def test_what_is_printed_before_and_after(capsys, tmp_path):
    before = sys.stdout
    with Screen() as screen:
        print("within")
        assert screen.problem is None
        (tmp_path / "file").write_text("x")
    assert sys.stdout is before
    assert capsys.readouterr().out == "within\n"
