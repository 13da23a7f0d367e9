"""An index of the images in the ILSVRC2012 archives; nothing is unpacked.

The training archive is a tar of one tar per synset, the validation archive a flat tar. Both are
uncompressed, so an image is a range of bytes of the archive and one pass over the headers finds
them all.
"""

import dataclasses
import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from tfcredit.errors import UserError

OFFICIAL_MD5 = {
    "train": "1d675b47d978889d74fa0da5fadfb00e",
    "validation": "29b22e2961454d5413ddabcf34fc5622",
}
ENTRY = np.dtype([("name", "S40"), ("offset", "i8"), ("size", "i8"), ("label", "i2")])
"""An image: file name, first byte and number of bytes in the archive, class from 0."""
BLOCK = tarfile.BLOCKSIZE
CLASS_TAR = re.compile(r"(n\d{8})\.tar")
TRAIN_IMAGE = re.compile(r"(n\d{8})_\d{1,20}\.JPEG")
VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Index:
    """The images of an archive.

    Attributes:
        archive: The file.
        entries: Array of `ENTRY`, sorted by name.
    """

    archive: Path
    entries: np.ndarray


def index_train(path: Path, classes: Sequence[str], progress: Progress) -> Index:
    """Finds the images of the training archive.

    Args:
        path: The tar of tars.
        classes: All synsets, in the order of their numbers.
        progress: Called now and then with the bytes passed and those of the archive.

    Returns:
        The index.

    Raises:
        UserError: If the archive is cut off or holds anything but images of the classes.
    """
    numbers = {synset: number for number, synset in enumerate(classes)}
    size, rows = path.stat().st_size, []
    with path.open("rb", buffering=0) as file, path.open("rb", buffering=0) as inner:
        for member in _members(file, path, 0, size):
            synset = _matched(CLASS_TAR, member.name, path, "nXXXXXXXX.tar")
            if synset not in numbers:
                raise UserError(
                    f"{path} holds the unknown synset {synset}, but the {len(classes)} classes of "
                    "ILSVRC2012 were expected: give the archive of that challenge."
                )
            where = f"{path}:{member.name}"
            end = member.offset_data + member.size
            for image in _members(inner, where, member.offset_data, end):
                if _matched(TRAIN_IMAGE, image.name, where, f"{synset}_NUMBER.JPEG") != synset:
                    raise UserError(
                        f"{where} holds {image.name!r}, an image of another synset: give the "
                        "official archive."
                    )
                rows.append(_row(image, numbers[synset]))
            progress(end, size)
    return Index(path, _sorted(rows, path))


def index_validation(path: Path, classes: Sequence[str], labels: Sequence[str]) -> Index:
    """Finds the images of the validation archive.

    Args:
        path: The flat tar.
        classes: All synsets, in the order of their numbers.
        labels: A synset per image, in the order of the images' numbers, which count from 1.

    Returns:
        The index.

    Raises:
        UserError: If the archive is cut off, holds anything else, or its images are not those that
            `labels` is about.
    """
    numbers = {synset: number for number, synset in enumerate(classes)}
    unknown = next((synset for synset in labels if synset not in numbers), None)
    if unknown is not None:
        raise UserError(
            f"the validation labels hold the unknown synset {unknown}, but the {len(classes)} "
            "classes of ILSVRC2012 were expected: correct the file of --validation_labels."
        )
    rows = []
    with path.open("rb", buffering=0) as file:
        for image in _members(file, path, 0, path.stat().st_size):
            text = _matched(VALIDATION_IMAGE, image.name, path, "ILSVRC2012_val_NNNNNNNN.JPEG")
            if not 1 <= int(text) <= len(labels):
                raise UserError(
                    f"{path} holds {image.name!r}, but there are labels for images 1 to "
                    f"{len(labels)}: give the file of labels that belongs to the archive as "
                    "--validation_labels."
                )
            rows.append(_row(image, numbers[labels[int(text) - 1]]))
    entries = _sorted(rows, path)
    if len(entries) != len(labels):
        raise UserError(
            f"{path} holds {len(entries)} images, but there are labels for {len(labels)}: give the "
            "whole archive, or its labels as --validation_labels."
        )
    return Index(path, entries)


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


def _members(file: BinaryIO, name: Path | str, start: int, end: int) -> Iterator[tarfile.TarInfo]:
    """The files of the tar in bytes [start, end) of `file`; offsets count from byte 0 of `file`."""
    place = start
    try:
        file.seek(start)
        archive = tarfile.open(fileobj=file, mode="r:")
        for member in archive:
            place = member.offset_data + member.size
            if place > end:
                raise tarfile.ReadError("unexpected end of data")
            _check_member(member, name)
            if not member.isdir():
                yield member
        # tarfile takes a missing end, or bytes that are no header, for the end of the archive.
        place = archive.offset
        file.seek(place)
        if place + BLOCK > end or file.read(BLOCK) != tarfile.NUL * BLOCK:
            raise tarfile.ReadError("no end mark")
    except tarfile.TarError as problem:
        raise UserError(
            f"{name} is no whole tar archive ({problem} at byte {place - start:,} of "
            f"{end - start:,}): copy or download it again."
        ) from None


def _check_member(member: tarfile.TarInfo, name: Path | str) -> None:
    """Refuses what no official archive holds; nothing is unpacked, so this is about trust."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{name} holds the entry {member.name!r}, which leaves the archive's folder: do not "
            "use this archive, download the official one."
        )
    if not (member.isreg() or member.isdir()):
        raise UserError(
            f"{name} holds the entry {member.name!r}, which is a link or device instead of a "
            "file: do not use this archive, download the official one."
        )


def _matched(pattern: re.Pattern, entry: str, name: Path | str, expected: str) -> str:
    match = pattern.fullmatch(entry.removeprefix("./"))
    if match is None:
        raise UserError(
            f"{name} holds the entry {entry!r}, but only entries such as {expected} were "
            "expected: give the official archive."
        )
    return match[1]


def _row(member: tarfile.TarInfo, label: int) -> tuple[bytes, int, int, int]:
    name = member.name.removeprefix("./").encode()
    return name, member.offset_data, member.size, label


def _sorted(rows: list[tuple], path: Path) -> np.ndarray:
    """The rows by name, so that the shards do not depend on the archive's order."""
    entries = np.sort(np.array(rows, ENTRY), order="name")
    if not len(entries):
        raise UserError(f"{path} holds no image: give the official archive.")
    twice = entries["name"][1:][entries["name"][1:] == entries["name"][:-1]]
    if len(twice):
        raise UserError(f"{path} holds {twice[0].decode()!r} twice: give the official archive.")
    return entries
