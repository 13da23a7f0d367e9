"""Files are whole or not there, locks keep others out, tables come back as they were."""

import fcntl
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tfcredit.errors import UserError
from tfcredit.files import InUseError, is_locked, locked, partial, written, written_folder
from tfcredit.records import markdown, read_csv, write_csv


@pytest.mark.parametrize("to_disk", [False, True])
def test_a_file_is_replaced_at_the_end(tmp_path, to_disk):
    path = tmp_path / "a.keras"
    path.write_text("old")
    with written(path, to_disk) as unfinished:
        assert unfinished == partial(path) and unfinished.suffix == ".keras"
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("problem", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_file_as_it_was(tmp_path, problem):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(problem), written(path) as unfinished:
        unfinished.write_text("ne")
        raise problem
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), written(tmp_path / "a.txt"):
        pass
    assert not any(tmp_path.iterdir())


def test_a_lock_keeps_others_out(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        with pytest.raises(InUseError, match=f"process {os.getpid()} on "), locked(path):
            pass
    assert path.exists() and not is_locked(path)
    with locked(path):
        assert is_locked(path)


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "lock"):
        assert not is_locked(tmp_path / "lock")


def test_a_table_comes_back(tmp_path):
    path = tmp_path / "a.csv"
    records = [{"layer": "3", "step": 1, "x": 0.1}, {"layer": "b", "step": 2, "y": -1e-30}]
    write_csv(records, path, columns=["step", "x"])
    assert path.read_text().splitlines()[0] == "step,x,layer,y"
    assert read_csv(path) == records
    assert [type(value) for value in read_csv(path)[0].values()] == [int, float, str]
    write_csv([{"a": None}], path)
    assert read_csv(path) == [{}]


@pytest.mark.parametrize(
    "text", ["step\nmany\n", "step\n1,2\n", 'a\n"b\n', "a,b\n1\n", "a\n1_0\n", "a\n18\n1", "\0\xff"]
)
def test_a_damaged_table_is_told(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(
        UserError, match="can't be read as a table of records.*mend it or move it away"
    ):
        read_csv(path)


def test_a_bar_in_a_cell_ends_no_cell_of_a_markdown_table():
    for padded in (False, True):
        lines = markdown(["rule", "runs"], [["conv|top: drtp", 5]], padded).splitlines()
        assert lines[2].replace("\\|", "").count("|") == 3
        assert padded == (len({len(line) for line in lines}) == 1)


WRITER = """
import pathlib, sys, time
from tfcredit.files import written

for word in range(6):
    with written(sys.argv[1]) as unfinished, unfinished.open("w") as file:
        for _ in range(10):
            file.write(f"{sys.argv[2]}{word} ")
            file.flush()
            time.sleep(0.001)
"""


def test_what_several_processes_write_is_of_one_of_them(tmp_path):
    path = tmp_path / "a.txt"
    partial(path).write_text("left by a killed process, and longer than what others write" * 9)
    command = [sys.executable, "-c", WRITER, str(path)]
    processes = [subprocess.Popen([*command, name]) for name in "abc"]
    found = set()
    while any(process.poll() is None for process in processes):
        if path.exists():
            words = path.read_text().split()
            assert len(words) == 10 and len(set(words)) == 1
            found.add(words[0][0])
    assert all(process.returncode == 0 for process in processes) and len(found) > 1
    assert list(tmp_path.iterdir()) == [path]


def test_threads_take_turns_and_a_failure_lets_the_next_in(tmp_path):
    path = tmp_path / "a.txt"

    def write(number):
        with written(path) as unfinished:
            unfinished.write_text(f"{number}")
            time.sleep(0.01)
            if number % 2:
                raise FileNotFoundError(number)

    with ThreadPoolExecutor(6) as pool:
        problems = [task.exception() for task in [pool.submit(write, n) for n in range(6)]]
    assert [type(one) for one in problems] == [type(None), FileNotFoundError] * 3
    assert path.read_text() in ("0", "2", "4") and list(tmp_path.iterdir()) == [path]


def test_an_empty_file_is_written_where_that_is_meant(tmp_path):
    with written(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("")
    assert (tmp_path / "a.txt").read_bytes() == b""


def test_files_of_file_systems_without_locks_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError("no locks")))
    with written(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_folder_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "saved_model"
    for name in ("one", "two"):
        partial(path).mkdir()  # of a killed process
        partial(path).joinpath("old").touch()
        with written_folder(path) as unfinished:
            unfinished.mkdir()
            (unfinished / name).touch()
        assert [file.name for file in path.iterdir()] == [name]
        assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyboardInterrupt), written_folder(path) as unfinished:
        unfinished.mkdir()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path] and (path / "two").exists()
    with pytest.raises(FileNotFoundError), written_folder(path):
        pass  # nothing is there to be renamed
    assert list(tmp_path.iterdir()) == [path] and (path / "two").exists()


NOWHERE = """
import os, resource, sys
from tfcredit import cli
from tfcredit.files import scratch
from tfcredit.startup import _file_in_memory

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file can be written anywhere
assert _file_in_memory().tell() == 0  # while TensorFlow is imported
import types
sys.modules["slow.command"] = types.SimpleNamespace(main=lambda *_: scratch())
cli.COMMANDS["slow"] = ("slow", "")
sys.exit(cli.main(["slow"]))
"""


def test_where_no_temporary_file_can_be_made_a_sentence_names_tmpdir():
    done = subprocess.run([sys.executable, "-c", NOWHERE], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "temporary files can't be made" in done.stderr and "TMPDIR" in done.stderr


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("other", path)])
def test_what_others_put_in_the_place_of_an_unfinished_file_is_no_place_to_write(make, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    make(partial(path))
    with pytest.raises(OSError) as told, written(path) as unfinished:
        unfinished.write_text("new")
    assert told.value.filename == str(partial(path)) and path.read_text() == "before"
    assert not (tmp_path / "other").exists()
