"""Flags and folders that `tfcredit prepare-imagenet` refuses."""

import fcntl
import shutil
from pathlib import Path

import pytest

from tests.prepare.ilsvrc import TRAIN, VALIDATION_CLASSES, files, run
from tfcredit.errors import UserError
from tfcredit.prepare import command as prepare
from tfcredit.prepare import preparing


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--seed=3", "seed"), ("--train_shards=5", "shards")],
)
def test_a_set_begun_otherwise_is_refused(source, output, flag, name):
    run(source, output)
    before = files(output)
    with pytest.raises(UserError, match=f"was begun with {name}=.*another --output"):
        run(source, output, flag)
    assert files(output) == before


def test_other_labels_than_before_are_refused(source, output):
    run(source, output)
    (source / "labels.txt").write_text("\n".join(reversed(VALIDATION_CLASSES)))
    with pytest.raises(UserError, match="begun with validation_labels_sha256"):
        run(source, output)


def test_a_folder_with_strange_shards_is_refused(source, output):
    output.mkdir()
    (output / "train-00000-of-00009").touch()
    with pytest.raises(UserError, match="train-00000-of-00009, which .* did not write"):
        run(source, output)


def test_a_damaged_plan_is_told(source, output):
    output.mkdir()
    (output / "prepare.json").write_text('{"parameters": 3')
    with pytest.raises(UserError, match="prepare.json is damaged"):
        run(source, output)


def test_two_at_once_are_refused(source, output):
    output.mkdir()
    with (output / ".prepare.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being prepared by another process"):
            run(source, output)
    run(source, output)


def test_nothing_is_written_before_the_archives_are_understood(source, output):
    whole = (source / TRAIN).read_bytes()
    (source / TRAIN).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError):
        run(source, output)
    assert files(output) == {}
    (source / TRAIN).write_bytes(whole)  # downloaded again
    run(source, output)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--train_shards=0", "--train_shards=0 is outside 1 to 99999"),
        ("--validation_shards=-1", "--validation_shards=-1 is outside"),
        ("--train_shards=100000", "--train_shards=100000 is outside"),
        ("--train_shards=22", "--train_shards=22 is more than the 21 images"),
        ("--train_shards=many", "train_shards.*'many'.*--help"),
        ("--seed=-1", "--seed=-1 is negative"),
        ("--output=gs://bucket/imagenet", "gs://bucket/imagenet is no local folder"),
        ("--sed=1", "--sed=1; --help lists the flags"),
    ],
)
def test_wrong_flags_are_told(source, output, flag, message):
    with pytest.raises(UserError, match=message):
        run(source, output, flag)


def test_missing_flags_are_told(tmp_path):
    with pytest.raises(UserError, match="--output"):
        prepare.main([])
    with pytest.raises(UserError, match="--source is missing"):
        prepare.main([f"--output={tmp_path}"])


def test_an_output_that_can_not_be_written_is_told(source, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/shards")):
        with pytest.raises(UserError, match=f"{output} can't be used .* write \\(--output\\)"):
            run(source, output)


def test_a_shard_that_can_not_be_written_is_told(source, output):
    (output / ".partial-train-00002-of-00004").mkdir(parents=True)  # in the way of the shard
    with pytest.raises(UserError, match="train-00002-of-00004 can't be written"):
        run(source, output)
    (output / ".partial-train-00002-of-00004").rmdir()
    run(source, output)
    prepare.main([f"--output={output}", "--verify"])


def test_too_little_space_is_told(source, output, monkeypatch):
    usage = shutil.disk_usage(source)._replace(free=1000)
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="0.0 GB free, but the shards need"):
        run(source, output)
