"""Checkpoints are found, checked and replaced by older ones, whatever was done to their folder."""

import random

import numpy as np
import pytest
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.training.checkpoints import Checkpoints


def variables(value=0.0, names="ab"):
    return {f"network/{name}": tf.Variable(tf.fill([300], value)) for name in names}


@pytest.fixture(params=["plain", "lr=[0.02]", "a*b?", "#% \\x"])
def folder(request, tmp_path):
    """Checkpoints of the steps 1, 2 and 3, whose values are the steps."""
    folder = tmp_path / request.param / "checkpoints"
    folder.mkdir(parents=True)
    for step in (1, 2, 3):
        Checkpoints(folder, variables(float(step))).save(step)
    return folder


def restored(folder, **options):
    found = variables(**options)
    step = Checkpoints(folder, found).restore()
    assert {float(v) for variable in found.values() for v in variable} == {float(step)}
    return step


def test_the_newest_is_restored_without_tensorflows_file(folder):
    assert restored(folder) == 3
    for text in ("", "junk", 'model_checkpoint_path: "/elsewhere/ckpt-9"'):
        (folder / "checkpoint").write_text(text)
        assert restored(folder) == 3
    (folder / "checkpoint").unlink()
    assert restored(folder) == 3
    assert restored(folder.rename(folder.with_name("moved"))) == 3


def test_so_many_stay_and_tensorflow_finds_them(folder):
    Checkpoints(folder, variables(4.0), keep=2).save(4)
    found = sorted(path.name for path in folder.iterdir())
    data = "data-00000-of-00001"
    expected = ["checkpoint"] + [f"ckpt-{s}.{kind}" for s in (3, 4) for kind in (data, "index")]
    assert found == expected
    state = tf.train.get_checkpoint_state(str(folder))
    assert [path.rsplit("/")[-1] for path in state.all_model_checkpoint_paths] == [
        "ckpt-3",
        "ckpt-4",
    ]


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "emptied":
        content = b""
    elif kind == "zeros":
        content = bytes(len(content))
    elif kind == "flipped":
        content[len(content) // 2] ^= 4
    elif kind == "long lengths":  # in an index: where its parts lie, without a check sum
        content[-48:-40] = b"\xff" * 7 + b"\x01"
    path.write_bytes(content)
    if kind == "missing":
        path.unlink()


KINDS = ["cut", "emptied", "zeros", "flipped", "missing"]


@pytest.mark.every(4)
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("kind", [*KINDS, "long lengths"])
def test_the_one_before_a_damaged_one_is_restored(ending, kind, folder, capsys):
    damage(folder / f"ckpt-3.{ending}", kind)
    step = restored(folder)
    told = capsys.readouterr().out
    if kind == "long lengths" and ending != "index":
        return
    assert step == 2
    if (ending, kind) != ("index", "missing"):  # then it is no checkpoint
        assert "ckpt-3 is damaged" in told and "ckpt-2 instead" in told


@pytest.mark.slow
def test_flips_anywhere_give_the_right_values_or_an_older_step(tmp_path):
    draw = random.Random(0)
    for step in (1, 2):
        Checkpoints(tmp_path, variables(float(step))).save(step)
    files = {p: p.read_bytes() for p in tmp_path.iterdir() if "ckpt-2" in p.name}
    for _ in range(100):
        path = draw.choice(sorted(files))
        content = bytearray(files[path])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        assert restored(tmp_path) in (1, 2)
        path.write_bytes(files[path])


def test_a_damaged_one_is_replaced_and_does_not_count_as_kept(tmp_path):
    for step in (1, 2, 3, 4):
        Checkpoints(tmp_path, variables(float(step)), keep=4).save(step)
    damage(tmp_path / "ckpt-4.index", "cut")
    damage(tmp_path / "ckpt-3.index", "zeros")
    checkpoints = Checkpoints(tmp_path, variables(3.0), keep=2)
    assert checkpoints.restore() == 2 and checkpoints.latest.name == "ckpt-2"
    for variable in checkpoints._variables.values():
        variable.assign(tf.fill([300], 3.0))
    checkpoints.save(3)
    assert checkpoints.steps() == [2, 3] and restored(tmp_path) == 3


def test_all_damaged_is_refused_and_nothing_touched(folder):
    for path in folder.glob("*.data-*"):
        damage(path, "cut")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="no checkpoint in .* can be read.*nothing was touched"):
        Checkpoints(folder, variables()).restore()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_does_not_fit_is_named(tmp_path):
    Checkpoints(tmp_path, variables()).save(1)
    with pytest.raises(UserError, match="lacks network/c; it also has network/b"):
        Checkpoints(tmp_path, variables(names="ac")).restore()
    other = variables() | {"network/a": tf.Variable(tf.zeros([2]))}
    with pytest.raises(UserError, match=r"network/a of shape \(300,\), not \(2,\)"):
        Checkpoints(tmp_path, other).restore()


def test_a_sum_over_replicas_outlives_another_number_of_them(tmp_path):
    def parts(count):
        return {f"metrics/loss@{i}": tf.Variable(float(i + 1)) for i in range(count)}

    Checkpoints(tmp_path, parts(3)).save(1)
    for count in (1, 2, 3):
        found = {name: tf.Variable(0.0) for name in parts(count)}
        if count == 1:
            found = {"metrics/loss": tf.Variable(0.0)}
        Checkpoints(tmp_path, found).restore()
        assert sum(float(value) for value in found.values()) == 6.0
    np.testing.assert_array_equal([float(v) for v in found.values()], [1, 2, 3])


def test_unfinished_files_are_swept(tmp_path):
    checkpoints = Checkpoints(tmp_path, variables())
    checkpoints.save(1)
    (tmp_path / "ckpt-2_temp").mkdir()
    (tmp_path / "ckpt-2_temp" / "part-0").touch()
    for name in (".partial-ckpt-3.index", "ckpt-2.data-00000-of-00001", ".partial-checkpoint"):
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    checkpoints.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint",
        "ckpt-1.index",
        "ckpt-1.data-00000-of-00001",
        "notes.txt",
    }


@pytest.mark.parametrize("folder", [".", "best"])
def test_what_a_kill_left_undone_is_finished(folder, tmp_path):
    """A kill after a checkpoint is there, before others know and older ones are deleted."""
    Checkpoints(tmp_path, variables(), keep=9).save(0)
    whole = Checkpoints(tmp_path / folder, variables(), keep=9)
    for step in (1, 2, 3, 4):
        whole.save(step)
    (tmp_path / folder / "checkpoint").unlink()
    checkpoints = Checkpoints(tmp_path, variables(), keep=2)
    checkpoints.sweep()
    expected = [3, 4] if folder == "." else [4]
    assert Checkpoints(tmp_path / folder, {}).steps() == expected
    state = tf.train.get_checkpoint_state(str(tmp_path / folder))
    assert state.model_checkpoint_path.endswith("ckpt-4")


def test_damaged_ones_stay_until_they_are_replaced(tmp_path):
    for step in (1, 2, 3):
        Checkpoints(tmp_path, variables(float(step)), keep=9).save(step)
    damage(tmp_path / "ckpt-3.index", "cut")
    checkpoints = Checkpoints(tmp_path, variables(), keep=1)
    assert checkpoints.restore() == 2
    checkpoints.sweep()
    assert checkpoints.steps() == [2, 3] and checkpoints.latest.name == "ckpt-2"
