"""An index of the images in the ILSVRC2012 archives; nothing is unpacked.

The training archive is a tar of one tar per synset, the validation archive a flat tar. Both are
uncompressed, so an image is a range of bytes of the archive and one pass over the headers finds
them all.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tfcredit.data.layouts import cache
from tfcredit.data.layouts.images import Images, entries
from tfcredit.data.layouts.official import numbers, sorted_by_name
from tfcredit.data.layouts.readers import TAR_MEMBERS
from tfcredit.data.layouts.tars import members
from tfcredit.data.synsets import validation_synsets
from tfcredit.errors import UserError
from tfcredit.ilsvrc2012 import ARCHIVES

OFFICIAL_MD5 = {
    "train": "1d675b47d978889d74fa0da5fadfb00e",
    "validation": "29b22e2961454d5413ddabcf34fc5622",
}
CLASS_TAR = re.compile(r"(n\d{8})\.tar")
TRAIN_IMAGE = re.compile(r"(n\d{8})_\d{1,20}\.JPEG")
VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")

Progress = Callable[[int, int], None]
Row = tuple[bytes, int, int, int]
"""An image: its name, first byte and number of bytes in the archive, and class from 0."""


def has_archives(root: Path) -> bool:
    """Looks for the archives.

    Args:
        root: A folder.

    Returns:
        True if one of them is there.
    """
    return any((root / name).is_file() for name in ARCHIVES.values())


def paths(root: Path) -> dict[str, Path]:
    """The archives in a folder.

    Args:
        root: The folder.

    Returns:
        Part ("train", "validation") -> its archive.

    Raises:
        UserError: If one is not there.
    """
    found = {part: root / name for part, name in ARCHIVES.items()}
    for path in found.values():
        if not path.is_file():
            raise UserError(
                f"{path} was not found: give the folder of {' and '.join(ARCHIVES.values())}, "
                "which image-net.org gives to registered users."
            )
    return found


def index(
    root: Path, labels: Sequence[str] | None = None, progress: Progress = lambda done, of: None
) -> cache.Parts:
    """Finds the images of both archives.

    Args:
        root: Their folder.
        labels: A synset per validation image, in the order of the images' numbers, which count
            from 1; by default those of ILSVRC2012.
        progress: Called now and then with the bytes passed of the training archive and all.

    Returns:
        Part ("train", "validation") -> its images.

    Raises:
        UserError: If an archive is missing or cut off, or holds anything but images of the
            classes, or other images than `labels` is about.
        OSError: If an archive can't be read.
    """
    found = paths(root)
    labels = validation_synsets() if labels is None else labels

    def build() -> cache.Parts:
        rows = {
            "train": index_train(found["train"], progress),
            "validation": index_validation(found["validation"], labels),
        }
        return {part: _images(rows[part], found[part]) for part in found}

    # Labels of one's own belong to the index; they are few, and so are the images.
    layout = f"archives {hashlib.sha256(' '.join(labels).encode()).hexdigest()}"
    return cache.kept(root, layout, list(found.values()), TAR_MEMBERS, build)


def _images(rows: list[Row], path: Path) -> Images:
    names, offsets, sizes, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    found = entries(names, labels, files=[0] * len(names), offsets=offsets, sizes=sizes)
    return Images((os.fsencode(path),), sorted_by_name(found, names, str(path)), TAR_MEMBERS)


def index_train(path: Path, progress: Progress) -> list[Row]:
    """Finds the images of the training archive.

    Args:
        path: The tar of tars.
        progress: Called now and then with the bytes passed and those of the archive.

    Returns:
        The images, in the archive's order.

    Raises:
        UserError: If the archive is cut off or holds anything but images of the classes.
        OSError: If it can't be read.
    """
    known = {synset.decode(): number for synset, number in numbers().items()}
    size, rows = path.stat().st_size, []
    with path.open("rb", buffering=0) as file, path.open("rb", buffering=0) as inner:
        for member in members(file, path, 0, size):
            synset = _matched(CLASS_TAR, member.name, path, "nXXXXXXXX.tar")
            if synset not in known:
                raise UserError(
                    f"{path} holds the unknown synset {synset}, but the {len(known)} classes of "
                    "ILSVRC2012 were expected: give the archive of that challenge."
                )
            where = f"{path}:{member.name}"
            end = member.offset_data + member.size
            for image in members(inner, where, member.offset_data, end):
                if _matched(TRAIN_IMAGE, image.name, where, f"{synset}_NUMBER.JPEG") != synset:
                    raise UserError(
                        f"{where} holds {image.name!r}, an image of another synset: give the "
                        "official archive."
                    )
                rows.append(_row(image, known[synset]))
            progress(end, size)
    return rows


def index_validation(path: Path, labels: Sequence[str]) -> list[Row]:
    """Finds the images of the validation archive.

    Args:
        path: The flat tar.
        labels: A synset per image, in the order of the images' numbers, which count from 1.

    Returns:
        The images, in the archive's order.

    Raises:
        UserError: If the archive is cut off, holds anything else, or its images are not those that
            `labels` is about.
        OSError: If it can't be read.
    """
    known = {synset.decode(): number for synset, number in numbers().items()}
    unknown = next((synset for synset in labels if synset not in known), None)
    if unknown is not None:
        raise UserError(
            f"the validation labels hold the unknown synset {unknown}, but the {len(known)} "
            "classes of ILSVRC2012 were expected: correct the file of --validation_labels."
        )
    rows = []
    with path.open("rb", buffering=0) as file:
        for image in members(file, path, 0, path.stat().st_size):
            text = _matched(VALIDATION_IMAGE, image.name, path, "ILSVRC2012_val_NNNNNNNN.JPEG")
            if not 1 <= int(text) <= len(labels):
                raise UserError(
                    f"{path} holds {image.name!r}, but there are labels for images 1 to "
                    f"{len(labels)}: give the file of labels that belongs to the archive as "
                    "--validation_labels."
                )
            rows.append(_row(image, known[labels[int(text) - 1]]))
    if len(rows) != len(labels):
        raise UserError(
            f"{path} holds {len(rows)} images, but there are labels for {len(labels)}: give the "
            "whole archive, or its labels as --validation_labels."
        )
    return rows


def official(path: Path, part: str) -> bool:
    """Compares an archive with the official one by its MD5; reads all of it.

    Args:
        path: The archive.
        part: "train" or "validation".

    Returns:
        True if its MD5 is the one that ImageNet's site states.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == OFFICIAL_MD5[part]


def _matched(pattern: re.Pattern, entry: str, name: Path | str, expected: str) -> str:
    match = pattern.fullmatch(entry.removeprefix("./"))
    if match is None:
        raise UserError(
            f"{name} holds the entry {entry!r}, but only entries such as {expected} were "
            "expected: give the official archive."
        )
    return match[1]


def _row(member: tarfile.TarInfo, label: int) -> Row:
    name = member.name.removeprefix("./").encode()
    return name, member.offset_data, member.size, label
