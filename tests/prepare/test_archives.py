"""Archives and labels that `tfcredit prepare-imagenet` refuses."""

import hashlib
import io
import os
import tarfile

import numpy as np
import pytest

from tests.prepare.ilsvrc import (
    CLASSES,
    TRAIN,
    VALIDATION,
    add,
    class_tar,
    files,
    run,
    tar_of,
)
from tfcredit.data.layouts import archives as layout
from tfcredit.errors import UserError


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


def test_an_archive_that_shrinks_meanwhile_is_told(source, output, monkeypatch):
    index = layout.index_validation

    def index_then_cut(path, *rest):
        result = index(path, *rest)
        os.truncate(path, 700)
        return result

    monkeypatch.setattr(layout, "index_validation", index_then_cut)
    with pytest.raises(UserError, match=f"{VALIDATION}:ILSVRC2012_val_.* gives no image"):
        run(source, output)


def test_official_archives_are_recognised(source, output, monkeypatch, capsys):
    digest = hashlib.md5((source / TRAIN).read_bytes()).hexdigest()
    monkeypatch.setitem(layout.OFFICIAL_MD5, "train", digest)
    run(source, output, "--check_archives")
    printed = capsys.readouterr().out
    assert f"{TRAIN} is the official archive." in printed
    assert f"{VALIDATION} is NOT the official archive" in printed
