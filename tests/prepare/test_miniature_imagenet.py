"""The tool that makes miniature archives, and the way from them to shards."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tensorflow as tf

from tfcredit import data
from tfcredit.data import synsets
from tfcredit.ilsvrc2012 import ARCHIVES
from tfcredit.prepare import command as prepare

Image = pytest.importorskip("PIL.Image")
from tools import make_miniature_imagenet  # noqa: E402
from tools.imagenet_layouts import LAYOUTS  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_miniature_imagenet.py"


def make(folder: Path, *flags: str) -> subprocess.CompletedProcess:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, str(TOOL), f"--output={folder}", *flags],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )


SMALL = ("--images=10", "--classes=5", "--validation_images=4", "--width=50", "--height=40")


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("miniature")
    done = make(folder, *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Source: ")
    return folder


def images(archive: tarfile.TarFile) -> dict[str, bytes]:
    return {member.name: archive.extractfile(member).read() for member in archive}


def test_the_layout_is_that_of_the_challenge(archives):
    names = synsets.synsets()[:5]
    with tarfile.open(archives / ARCHIVES["train"]) as outer:
        tars = images(outer)
    assert list(tars) == [f"{name}.tar" for name in names]
    for number, content in enumerate(tars.values()):
        with tarfile.open(fileobj=io.BytesIO(content)) as inner:
            expected = [f"{names[number]}_{place}.JPEG" for place in (number, number + 5)]
            assert list(images(inner)) == expected
    labels = (archives / "validation_labels.txt").read_text().split()
    assert len(labels) == 4 and set(labels) <= set(names)


def test_some_images_are_odd_as_in_the_real_set(archives):
    with tarfile.open(archives / ARCHIVES["validation"]) as archive:
        decoded = [Image.open(io.BytesIO(content)) for content in images(archive).values()]
    kinds = [(image.format, image.mode) for image in decoded]
    assert kinds == [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGB"), ("JPEG", "RGB")]
    assert {image.size for image in decoded} <= {(50, 40), (40, 50)}


@pytest.mark.slow
def test_the_same_flags_give_the_same_bytes(archives, tmp_path):
    assert make(tmp_path, *SMALL).returncode == 0
    for path in archives.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_archives_become_shards(archives, tmp_path):
    labels = f"--validation_labels={archives / 'validation_labels.txt'}"
    shards = ("--train_shards=2", "--validation_shards=1")
    prepare.main([f"--source={archives}", f"--output={tmp_path}", labels, *shards])
    records = tf.data.TFRecordDataset([str(path) for path in sorted(tmp_path.glob("train-*"))])
    seen = [
        tf.train.Example.FromString(record).features.feature["image/class/label"]
        for record in records.as_numpy_iterator()
    ]
    assert sorted(feature.int64_list.value[0] for feature in seen) == sorted([1, 2, 3, 4, 5] * 2)


@pytest.mark.every(3)
@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "archives"])
def test_a_sample_of_each_layout_is_read_in_place(tmp_path, layout):
    make_miniature_imagenet.make(tmp_path / layout, layout, 10, 4, 5, (50, 40), 0)
    found = data.get("imagenet", tmp_path / layout, image_size=8)
    assert (found.train_examples, found.test_examples) == (10, 4)
    (batch,) = found.train(10, seed=0, epoch=0)
    assert sorted(batch[1].numpy()) == sorted([0, 1, 2, 3, 4] * 2) and not found.corrupt


@pytest.mark.every(3)
@pytest.mark.parametrize("flag", ["--classes=0", "--classes=11", "--width=0"])
def test_wrong_flags_are_told(tmp_path, flag):
    done = make(tmp_path, *SMALL, flag)
    assert done.returncode == 2 and f"{flag} must be" in done.stderr
