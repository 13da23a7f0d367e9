"""Damaged and foreign folders of comparisons: one sentence, exit code 2, nothing overwritten."""

import json
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="an extra, `plots`")

from tests.comparison.conftest import RULES, SMALL, compare
from tfcredit import cli
from tfcredit.comparison.comparing import Runs
from tfcredit.comparison.folder import Comparison
from tfcredit.training.recipe import parse

RUN = f"runs/{RULES[0]}/seed0"


def content(folder):
    """All that is in a folder or beside it, without the lock."""
    paths = [path for path in folder.parent.rglob("*") if path.name not in ("lock", "own_rules.py")]
    return {p: p.read_bytes() if p.is_file() else p.is_symlink() or p.is_dir() for p in paths}


def check_refused(folder, words, capsys):
    before = content(folder)
    assert compare(folder) == 2
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("tfcredit compare: ")]
    assert len(lines) == 1 and "Traceback" not in told
    for word in words:
        assert word in lines[0]
    assert content(folder) == before


def stated(**changes):
    """Changes in `compare.json`."""

    def damage(folder):
        path = folder / "compare.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def folders(first):
    """Folders of the rules of which the first is another one."""
    return stated(rules=dict(zip(RULES, [first, "mine"], strict=True)))


def more_flags(*more):
    def damage(folder):
        flags = json.loads((folder / "compare.json").read_text())["flags"]
        stated(flags=[*flags, *more])(folder)

    return damage


def flagfile(folder):
    os.mkfifo(folder.parent / "flags")  # who reads it waits for ever
    more_flags(f"--flagfile={folder.parent / 'flags'}")(folder)


STATED = {
    "deep": lambda folder: (folder / "compare.json").write_text('{"rules": ' * 100_000),
    "UTF-16": lambda folder: (folder / "compare.json").write_bytes(b"\xff\xfe{\0}\0"),
    "large": lambda folder: os.truncate(folder / "compare.json", 2**21),
    "seeds as text": stated(seeds="2"),
    "seeds below 0": stated(seeds=-5),
    "seeds as truth": stated(seeds=True),
    "seeds without end": stated(seeds=float("inf")),
    "rules as a list": stated(rules=RULES),
    "a number for a folder": folders(3),
    "the folder above": folders(".."),
    "the folder itself": folders("."),
    "no folder": folders(""),
    "a folder elsewhere": folders("../x"),
    "an absolute folder": folders("/tmp/x"),
    "the folder of another rule": folders("mine"),
    "a folder of a long name": folders("x" * 300),
    "a folder of no name": folders("a\0b"),
    "flags as text": stated(flags="--model=fc"),
    "flags as words": stated(flags=["some words"]),
    "flags as numbers": stated(flags=[1, None]),
    "no flags": stated(flags=[]),
    "flags that read others": flagfile,
    "images as numbers": stated(images=[1]),
    "numbers for fingerprints": stated(images={"fingerprints": 3}),
    "a fingerprint as a list": stated(images={"fingerprints": {"test": [1]}}),
    "a number of images as text": stated(images={"training": "many"}),
}


@pytest.mark.parametrize("name", STATED)
def test_what_states_the_comparison_may_hold_anything(name, folder, capsys):
    STATED[name](folder)
    check_refused(folder, ["compare.json is damaged", "--compare_dir"], capsys)


def test_deep_images_are_no_more_than_unknown_ones(folder):
    deep = {"x": json.loads("[" * 400 + "]" * 400)}
    stated(images=deep)(folder)
    assert compare(folder) == 0


KINDS = {
    "a folder": os.mkdir,
    "a named pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a file": lambda path: path.write_text("x"),
}
FILES = ["compare.json", "lock", "arrays.npz", "compare.csv", "report.html", f"{RUN}/summary.json"]
FOLDERS = ["runs", f"runs/{RULES[0]}", RUN]
CASES = [(name, kind) for name in FILES for kind in KINDS if kind != "a file"]
CASES += [(name, kind) for name in FOLDERS for kind in KINDS if kind != "a folder"]


def put(path, kind):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    KINDS[kind](path)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_is_no_file_or_folder_is_told(name, kind, folder, capsys):
    put(folder / name, kind)
    check_refused(folder, [str(folder / name)], capsys)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a file"])
def test_nothing_is_written_through_what_a_killed_process_did_not_leave(kind, folder, capsys):
    put(folder / ".partial-compare.json", kind)
    check_refused(folder, [str(folder), ".partial-compare.json"], capsys)


@pytest.mark.parametrize("kind", ["a named pipe", "a folder"])
def test_a_log_that_can_not_be_written_is_told(kind, folder, capsys):
    (folder / RUN / "summary.json").unlink()
    put(folder / f"{RUN}.log", kind)
    assert compare(folder) == 2
    told = capsys.readouterr().err
    assert "backprop, seed 0 can't be run" in told and "seed0.log" in told
    assert told.count("\n") == 1


def swapped(folder):
    first, second = (folder / "runs" / rule / "seed0" for rule in RULES)
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


def of_another_seed(folder):
    shutil.rmtree(folder / RUN)
    shutil.copytree(folder / RUN.replace("seed0", "seed1"), folder / RUN)


def of_other_flags(folder):
    flags = folder / RUN / "flags.txt"
    flags.write_text(flags.read_text().replace("--epochs=2", "--epochs=3"))


MOVED = {
    "of another rule": (swapped, "--rule=mine, not backprop"),
    "of another seed": (of_another_seed, "--seed=1, not 0"),
    "of other flags": (of_other_flags, "--epochs=3.0, not 2.0"),
    "without flags": (lambda folder: (folder / RUN / "flags.txt").unlink(), "holds no run"),
}


@pytest.mark.parametrize("name", MOVED)
def test_runs_that_do_not_belong_here_are_told(name, folder, capsys):
    move, told = MOVED[name]
    move(folder)
    check_refused(folder, [str(folder / RUN), told], capsys)


def test_a_damaged_summary_is_written_again(folder):
    path = folder / RUN / "summary.json"
    before = json.loads(path.read_text())
    path.write_text("{")
    assert compare(folder) == 0
    assert json.loads(path.read_text())["top1"] == before["top1"]


def test_what_is_no_text_in_a_summary_is_on_the_page(folder):
    path = folder / RUN / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": {"\ud800": "\udfff"}}))
    assert compare(folder) == 0
    assert (folder / "report.html").read_text().endswith("</html>\n")


ODD = [kind for kind in KINDS if kind != "a folder"]
PLACES = {
    **{kind: (lambda path, kind=kind: put(path, kind), "x") for kind in ODD},
    "a run directory": (lambda path: shutil.copytree(path.parent / "a comparison" / RUN, path), ""),
    "a user's home": (lambda path: None, "~nobody-here"),
    "an address": (lambda path: None, "gs://bucket"),
    "a long name": (lambda path: None, "x" * 300),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_no_folder_for_it_is_told(name, folder, capsys, monkeypatch):
    make, place = PLACES[name]
    monkeypatch.chdir(folder.parent)
    make(folder.parent / "x")
    before = content(folder)
    flags = [f"--rules={','.join(RULES[:1])}", *SMALL, f"--compare_dir={place or 'x'}"]
    assert cli.main(["compare", *flags]) == 2
    told = capsys.readouterr().err
    assert (place or "x")[:99] in told and told.count("\n") == 1
    assert "--compare_dir" in told and "invalid" not in told
    assert content(folder) == before


@pytest.mark.parametrize("name", ["~x", "a [1-3] b", "100%s {0}", "ü, ℝ=1"])
def test_a_folder_may_have_any_name(name, folder):
    other = folder.rename(folder.parent / name)
    (other / "report.html").unlink()
    assert compare(other) == 0 and (other / "report.html").exists()


@pytest.mark.parametrize("at", ["the end of a run", "the start of a run"])
def test_a_folder_that_is_removed_meanwhile_is_told(at, folder, capsys, monkeypatch):
    """Nothing is made again in its place."""
    name = "ended" if at == "the end of a run" else "next"
    own = getattr(Runs, name)

    def remove(self, *arguments):
        found = own(self, *arguments)
        shutil.rmtree(folder, ignore_errors=True)
        return found

    monkeypatch.setattr(Runs, name, remove)
    (folder / RUN / "summary.json").unlink()
    assert compare(folder) == 2
    told = capsys.readouterr().err
    assert f"{folder} was moved or removed while it was in use" in told
    assert "give the same command again" in told and not folder.exists()


def test_arrays_that_were_damaged_are_written_again(tmp_path, capsys):
    given = tmp_path / "given.npz"
    np.savez(given, x_train=np.zeros((4, 2, 2, 1)), y_train=np.arange(4))
    recipe, _ = parse(["--dataset=arrays"])
    comparison = Comparison(tmp_path / "compared", recipe, RULES, 2)
    comparison.keep_arrays(given)
    with comparison.locked():
        comparison.prepare()
        kept = comparison.arrays
        written_at = kept.stat().st_mtime_ns
        comparison.prepare()
        assert kept.stat().st_mtime_ns == written_at and not capsys.readouterr().out
        for damaged in (b"", given.read_bytes()[:-9]):
            kept.write_bytes(damaged)
            comparison.prepare()
            assert kept.read_bytes() == given.read_bytes()
            assert f"{kept} is not as it was written" in capsys.readouterr().out
