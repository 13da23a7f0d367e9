"""What `tfcredit prepare-imagenet` writes, checks and continues."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.prepare.ilsvrc import (
    CLASSES,
    PER_CLASS,
    VALIDATION_CLASSES,
    files,
    flags,
    payload,
    run,
)
from tfcredit.data import synsets
from tfcredit.data.layouts.images import Images, entries
from tfcredit.data.layouts.readers import TAR_MEMBERS
from tfcredit.errors import UserError
from tfcredit.prepare import command as prepare
from tfcredit.prepare import plan as prepare_plan
from tfcredit.prepare import preparing
from tfcredit.prepare import shards as prepare_shards

ROOT = Path(__file__).resolve().parents[2]


def records(folder: Path, part: str) -> dict[str, list]:
    """Per shard the features of its records."""
    result = {}
    for path in sorted(folder.glob(f"{part}-*")):
        result[path.name] = []
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            result[path.name].append(
                {
                    key: (value.bytes_list.value or value.int64_list.value)[0]
                    for key, value in features.items()
                }
            )
    return result


def test_every_image_is_in_one_shard_with_its_class(source, output, capsys):
    run(source, output)
    train = records(output, "train")
    assert list(train) == [f"train-{k:05d}-of-00004" for k in range(4)]
    assert sorted(map(len, train.values())) == [5, 5, 5, 6]
    images = sum(train.values(), [])
    names = [f"{synset}_{k * 37}.JPEG" for synset in CLASSES for k in range(PER_CLASS)]
    assert sorted(image["image/filename"].decode() for image in images) == sorted(names)
    for image in images:
        name = image["image/filename"].decode()
        assert image["image/encoded"] == payload(name)
        assert image["image/class/synset"].decode() == name.split("_")[0]
        numbers = dict(zip(CLASSES, (1, 2, 1000), strict=True))
        assert image["image/class/label"] == numbers[name.split("_")[0]]
    printed = capsys.readouterr().out
    assert "train: 21 images (ILSVRC2012 has 1,281,167: this is another set) of 3" in printed
    assert "train: 4 of 4 shards" in printed


def test_validation_labels_follow_the_images_numbers(source, output):
    run(source, output)
    images = sum(records(output, "validation").values(), [])
    assert len(images) == len(VALIDATION_CLASSES)
    for image in images:
        number = int(image["image/filename"].decode()[-13:-5])
        assert image["image/class/synset"].decode() == VALIDATION_CLASSES[number - 1]
        assert image["image/encoded"] == payload(image["image/filename"].decode())


def test_the_order_is_a_function_of_the_seed(source, output, tmp_path):
    run(source, output)
    run(source, tmp_path / "again")
    run(source, tmp_path / "other", "--seed=1")
    again, other = files(tmp_path / "again"), files(tmp_path / "other")
    assert files(output) == again
    assert again["SHA256SUMS"] != other["SHA256SUMS"]
    order = [image["image/filename"] for image in sum(records(output, "train").values(), [])]
    assert order != sorted(order)


def test_the_reader_reads_the_shards(source, output):
    from tfcredit.data import imagenet

    run(source, output)
    data = imagenet.build(output)
    assert (data.train_examples, data.test_examples) == (21, 5)


def test_the_checksums_are_sha256sums(source, output, capsys):
    run(source, output)
    lines = (output / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 6
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((output / name).read_bytes()).hexdigest() == digest
    prepare.main([f"--output={output}", "--verify"])
    assert "all 6 shards are as SHA256SUMS says" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_verify_names_what_is_wrong(source, output, damage):
    run(source, output)
    shard = output / "train-00002-of-00004"
    content = bytearray(shard.read_bytes())
    shard.unlink()
    if damage == "changed":
        content[50] ^= 1
        shard.write_bytes(content)
    with pytest.raises(UserError, match="1 of 6 shards .* changed, .* train-00002-of-00004"):
        prepare.main([f"--output={output}", "--verify"])


def test_verify_without_a_finished_set(tmp_path):
    with pytest.raises(UserError, match="SHA256SUMS is missing, so the set was never finished"):
        prepare.main([f"--output={tmp_path}", "--verify"])
    (tmp_path / "SHA256SUMS").write_text("../../etc/passwd\n")
    with pytest.raises(UserError, match="is no list of SHA-256 sums"):
        prepare.main([f"--output={tmp_path}", "--verify"])


def test_shards_that_are_there_are_kept(source, output, capsys, monkeypatch):
    run(source, output)
    expected = files(output)
    (output / "SHA256SUMS").unlink()
    (output / "train-00001-of-00004").unlink()
    (output / ".partial-train-00001-of-00004").write_bytes(b"half")
    written, write = [], preparing.write_shard

    def count(path, *rest):
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(preparing, "write_shard", count)
    run(source, output)
    assert written == ["train-00001-of-00004"]
    assert files(output) == expected
    run(source, output)
    assert len(written) == 1 and "complete already" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_run_is_continued(source, output, tmp_path):
    run(source, output, "--train_shards=21")
    expected, killed = files(output), tmp_path / "killed"
    slow = (
        "import sys, time\n"
        "from tfcredit.prepare import command, shards\n"
        "record = shards._record\n"
        "shards._record = lambda *rest: (time.sleep(0.02), record(*rest))[1]\n"
        "command.main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", slow, *flags(source, killed, "--train_shards=21")]
    chance = random.Random(0)
    for kept in (1, 4, 9, 15):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while len(list(killed.glob("train-*"))) < kept:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(chance.random() * 0.05)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        for name, content in files(killed).items():
            assert (
                name.startswith(".partial-")
                or name == prepare_plan.PLAN
                or (content == expected[name])
            )
    run(source, killed, "--train_shards=21")
    assert files(killed) == expected


def test_the_plan_holds_the_counts(source, output):
    run(source, output)
    plan = json.loads((output / "prepare.json").read_text())
    assert plan["images"] == {"train": 21, "validation": 5}
    assert plan["parameters"]["shards"] == {"train": 4, "validation": 2}


def test_help_lists_the_flags(capsys):
    with pytest.raises(SystemExit) as stop:
        prepare.main(["--help"])
    assert stop.value.code == 0 and "--validation_labels" in capsys.readouterr().out


def test_the_classes_are_those_of_the_challenge():
    names = synsets.synsets()
    assert len(names) == 1000 and list(names) == sorted(names)
    # Well-known classes: tench, goldfish, ..., golden retriever, ..., toilet tissue.
    assert [names[k] for k in (0, 1, 207, 999)] == [
        "n01440764",
        "n01443537",
        "n02099601",
        "n15075141",
    ]
    labels = synsets.validation_synsets()
    assert len(labels) == 50_000 and set(labels) == set(names)
    counts = np.unique(labels, return_counts=True)[1]
    assert set(counts) == {50}


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(synsets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorflow-datasets"):
        synsets.synsets()


def test_shards_of_all_sizes_hold_each_image_once():
    for images, shards in ((21, 4), (5, 5), (100, 7)):
        those = Images((), entries([b"x"] * images, [0] * images, files=[0] * images), TAR_MEMBERS)
        hands = prepare_shards.deal(those, shards, 0, "train")
        assert max(map(len, hands)) - min(map(len, hands)) <= 1
        assert sorted(np.concatenate(hands)) == list(range(images))
