"""`tfcredit prepare-imagenet` on small archives of the official layout."""

import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfcredit.data import prepare, prepare_archives, prepare_plan, prepare_shards, synsets
from tfcredit.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("n01440764", "n01443537", "n15075141")  # classes 1, 2 and 1000
TRAIN, VALIDATION = prepare_archives.ARCHIVES.values()
PER_CLASS = 7
VALIDATION_CLASSES = [CLASSES[number % 3] for number in (2, 0, 1, 1, 0)]


def add(archive: tarfile.TarFile, name: str, content: bytes, **fields) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    return buffer.getvalue()


def payload(name: str) -> bytes:
    """Bytes that belong to the name; the command never looks into images."""
    return name.encode() * (1 + len(name) * sum(name.encode()) % 97)


def class_tar(synset: str) -> bytes:
    names = [f"{synset}_{number * 37}.JPEG" for number in range(PER_CLASS)]
    return tar_of({name: payload(name) for name in names})


def make_source(folder: Path) -> Path:
    folder.mkdir()
    (folder / TRAIN).write_bytes(tar_of({f"{name}.tar": class_tar(name) for name in CLASSES}))
    names = [f"ILSVRC2012_val_{k + 1:08d}.JPEG" for k in range(len(VALIDATION_CLASSES))]
    (folder / VALIDATION).write_bytes(tar_of({name: payload(name) for name in reversed(names)}))
    (folder / "labels.txt").write_text("\n".join(VALIDATION_CLASSES) + "\n")
    return folder


@pytest.fixture
def source(tmp_path) -> Path:
    return make_source(tmp_path / "archives")


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "shards"


def flags(source: Path, output: Path, *more: str) -> list[str]:
    return [
        f"--source={source}",
        f"--output={output}",
        "--train_shards=4",
        "--validation_shards=2",
        f"--validation_labels={source / 'labels.txt'}",
        *more,
    ]


def run(source: Path, output: Path, *more: str) -> None:
    prepare.main(flags(source, output, *more))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
    written, write = [], prepare.write_shard

    def count(path, *rest):
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(prepare, "write_shard", count)
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
        "from tfcredit.data import prepare, prepare_shards\n"
        "record = prepare_shards._record\n"
        "prepare_shards._record = lambda *rest: (time.sleep(0.02), record(*rest))[1]\n"
        "prepare.main(sys.argv[1:])\n"
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
    folder = os.open(output, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(UserError, match="is being prepared by another process"):
            run(source, output)
    finally:
        os.close(folder)
    run(source, output)


def test_the_plan_holds_the_counts(source, output):
    run(source, output)
    plan = json.loads((output / "prepare.json").read_text())
    assert plan["images"] == {"train": 21, "validation": 5}
    assert plan["parameters"]["shards"] == {"train": 4, "validation": 2}


def test_nothing_is_written_before_the_archives_are_understood(source, output):
    whole = (source / TRAIN).read_bytes()
    (source / TRAIN).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError):
        run(source, output)
    assert files(output) == {}
    (source / TRAIN).write_bytes(whole)  # downloaded again
    run(source, output)


@pytest.mark.parametrize("name", [TRAIN, VALIDATION])
def test_a_missing_archive_is_told(source, output, name):
    (source / name).unlink()
    with pytest.raises(UserError, match=f"{name} was not found: give the folder of"):
        run(source, output)
    assert not output.exists()


@pytest.mark.parametrize("name", [TRAIN, VALIDATION])
def test_an_archive_cut_anywhere_is_told(source, output, name):
    """Also between two entries, which tarfile takes for the end of the archive."""
    whole = (source / name).read_bytes()
    content = len(whole.rstrip(b"\0")) // 512 * 512
    for size in {0, 100, 512, 1024, content // 2, content // 1024 * 512, content - 512, content}:
        (source / name).write_bytes(whole[:size])
        with pytest.raises(UserError, match="is no whole tar archive|holds no image"):
            run(source, output)


def test_an_archive_that_is_no_tar_is_told(source, output):
    (source / VALIDATION).write_bytes(np.random.RandomState(0).bytes(5000))
    with pytest.raises(UserError, match=f"{VALIDATION} is no whole tar archive"):
        run(source, output)


def test_a_damaged_header_is_told(source, output):
    content = bytearray((source / VALIDATION).read_bytes())
    place = content.index(b"ILSVRC2012_val_00000003.JPEG")
    content[place : place + 3] = b"\xff\xff\xff"
    (source / VALIDATION).write_bytes(content)
    with pytest.raises(UserError, match=f"{VALIDATION} is no whole tar archive"):
        run(source, output)


def test_a_cut_tar_of_a_class_is_told(source, output):
    tars = {f"{name}.tar": class_tar(name) for name in CLASSES}
    tars["n01443537.tar"] = tars["n01443537.tar"].rstrip(b"\0")[:-700]
    (source / TRAIN).write_bytes(tar_of(tars))
    with pytest.raises(UserError, match="n01443537.tar is no whole tar archive"):
        run(source, output)


IMAGE = "n01440764_1.JPEG"
BAD_ENTRIES = {
    "../x.tar": "'../x.tar', which leaves the archive's folder",
    "/etc/passwd": "'/etc/passwd', which leaves the archive's folder",
    "n01440764/../../x.tar": "which leaves the archive's folder",
    "README": "'README', but only entries such as nXXXXXXXX.tar",
    "n99999999.tar": "unknown synset n99999999",
}
BAD_IMAGES = {
    "../n01440764_1.JPEG": "leaves the archive's folder",
    "/n01440764_1.JPEG": "leaves the archive's folder",
    "n01440764_1.png": "only entries such as n01440764_NUMBER.JPEG",
    "n01443537_1.JPEG": "an image of another synset",
}


@pytest.mark.parametrize("entry", BAD_ENTRIES)
def test_entries_that_are_no_class_are_refused(source, output, entry):
    (source / TRAIN).write_bytes(tar_of({"n01440764.tar": class_tar(CLASSES[0]), entry: b"x"}))
    with pytest.raises(UserError, match=BAD_ENTRIES[entry]):
        run(source, output)


@pytest.mark.parametrize("entry", BAD_IMAGES)
def test_entries_that_are_no_image_of_the_class_are_refused(source, output, entry):
    inner = tar_of({IMAGE: b"x", entry: b"x"})
    (source / TRAIN).write_bytes(tar_of({"n01440764.tar": inner}))
    with pytest.raises(UserError, match=BAD_IMAGES[entry]):
        run(source, output)


def test_an_image_twice_is_refused(source, output):
    inner = tar_of({IMAGE: b"x", f"./{IMAGE}": b"y"})
    (source / TRAIN).write_bytes(tar_of({"n01440764.tar": inner}))
    with pytest.raises(UserError, match=f"{IMAGE}' twice"):
        run(source, output)


def test_links_are_refused(source, output):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "n01440764.tar", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    (source / TRAIN).write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="'n01440764.tar', which is a link or device"):
        run(source, output)


def test_folders_and_a_leading_dot_are_harmless(source, output, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "./", b"", type=tarfile.DIRTYPE)
        for name in CLASSES:
            add(archive, f"./{name}.tar", class_tar(name))
    run(source, tmp_path / "plain")
    (source / TRAIN).write_bytes(buffer.getvalue())
    run(source, output)
    assert files(output)["SHA256SUMS"] == files(tmp_path / "plain")["SHA256SUMS"]


@pytest.mark.parametrize("labels", [4, 6])
def test_counts_of_images_and_labels_must_agree(source, output, labels):
    (source / "labels.txt").write_text("n01440764\n" * labels)
    with pytest.raises(UserError, match=r"--validation_labels"):
        run(source, output)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("490\n361\n", "word 1 of .*labels.txt is '490', but a synset"),
        ("n99999999\n" * 5, "validation labels hold the unknown synset n99999999"),
        ("größe", "can't be read as a list of synsets"),
    ],
)
def test_labels_that_are_no_synsets_are_told(source, output, text, message):
    (source / "labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        run(source, output)


def test_missing_labels_are_told(source, output):
    (source / "labels.txt").unlink()
    with pytest.raises(UserError, match="labels.txt can't be read as a list"):
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
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="0.0 GB free, but the shards need"):
        run(source, output)


def test_an_archive_that_shrinks_meanwhile_is_told(source, output, monkeypatch):
    index = prepare.index_validation

    def index_then_cut(path, *rest):
        result = index(path, *rest)
        os.truncate(path, 700)
        return result

    monkeypatch.setattr(prepare, "index_validation", index_then_cut)
    with pytest.raises(UserError, match=f"{VALIDATION} ends within 'ILSVRC2012_val_"):
        run(source, output)


def test_official_archives_are_recognised(source, output, monkeypatch, capsys):
    digest = hashlib.md5((source / TRAIN).read_bytes()).hexdigest()
    monkeypatch.setitem(prepare_archives.OFFICIAL_MD5, "train", digest)
    run(source, output, "--check_archives")
    printed = capsys.readouterr().out
    assert f"{TRAIN} is the official archive." in printed
    assert f"{VALIDATION} is NOT the official archive" in printed


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
        hands = prepare_shards.deal(images, shards, 0, "train")
        assert max(map(len, hands)) - min(map(len, hands)) <= 1
        assert sorted(np.concatenate(hands)) == list(range(images))
