"""Kaggle's copy in its zip, `imagenet-object-localization-challenge.zip`, which stays packed.

Python's `zipfile` makes an object of each entry, of some 600 bytes (Python 3.11, of 100,000 such
names): 1.2 GB for the 2 million that the zip holds. So its list of entries is read here as bytes.
"""

import array
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tfcredit.data.layouts import cache, folders, official
from tfcredit.data.layouts.images import Images, entries
from tfcredit.data.layouts.readers import ZIP_MEMBERS
from tfcredit.errors import UserError

NAME = "imagenet-object-localization-challenge.zip"
IMAGE = re.compile(
    rb"(?:.*/)?(train/([^/]+)|val(?:/([^/]+))?)/([^/.][^/]*\.(?:jpe?g|png))", re.IGNORECASE
)
ENTRY = struct.Struct("<4s4x2H8x2I3H8xI")
"""Of the list of entries: mark, flags, method, packed and unpacked size, lengths of name, extra
field and comment, and the place of the local header."""
END = struct.Struct("<4s4H2IH")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR64 = struct.Struct("<4sIQI")
WIDE = 0xFFFFFFFF
"""Stands for a number that an extra field holds."""
STORED, DEFLATED = 0, 8
ENCRYPTED = 1
"""Of an entry's flags."""


class Member(NamedTuple):
    """An entry of a zip.

    Attributes:
        name: Its path.
        method: How it is packed: `STORED`, `DEFLATED` or another number.
        size: Number of its bytes in the zip.
        unpacked: Number of its bytes after unpacking.
        offset: The byte at which its local header starts.
    """

    name: bytes
    method: int
    size: int
    unpacked: int
    offset: int


def index(path: Path) -> cache.Parts:
    """Finds the images of a zip that holds `train/` by synset and `val/`, at any depth.

    The images of `val/` are all in folders of synsets, or all in none.

    Args:
        path: The zip.

    Returns:
        Part ("train", "validation") -> its images.

    Raises:
        UserError: If it is no whole zip, its images are packed in another way, have no labels, or
            contradict each other.
        OSError: If it can't be read.
    """
    layout = f"zip {path.name}"
    return cache.kept(path.parent, layout, [path], ZIP_MEMBERS, lambda: _build(path))


class _Found:
    """Images of a part, as they are found: a `Member` for each of 1.28 million takes much more."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.labels = array.array("i")
        self._numbers = array.array("q")

    def add(self, member: Member, label: int = -1) -> None:
        self.names.append(member.name)
        self.labels.append(label)
        unpacked = member.unpacked if member.method == DEFLATED else -1
        self._numbers.extend((member.offset, member.size, unpacked))

    def entries(self) -> np.ndarray:
        offsets, sizes, unpacked = np.array(self._numbers).reshape(-1, 3).T
        where = {"offsets": offsets, "sizes": sizes, "unpacked": unpacked}
        return entries(self.names, self.labels, files=np.zeros(len(self.names), int), **where)


def _found(path: Path) -> tuple[_Found, _Found, _Found, _Found | None]:
    """The images of train/SYNSET/, val/ and val/SYNSET/, and Kaggle's labels of those of val/."""
    train, validation, by_synset, solution = _Found(), _Found(), _Found(), None
    for member in members(path):
        if member.name.rsplit(b"/", 1)[-1] == folders.SOLUTION.encode():
            solution = _Found()
            solution.add(member)
        match = IMAGE.fullmatch(member.name)
        if match is None:
            continue
        if member.method not in (STORED, DEFLATED):
            raise UserError(
                f"{path} holds {os.fsdecode(member.name)!r} packed with method {member.method}, "
                "but stored or deflated entries were expected: pack it again."
            )
        if match[2] is not None:
            train.add(member, official.class_of(match[2], str(path)))
        elif match[3] is not None:
            by_synset.add(member, official.class_of(match[3], str(path)))
        else:
            validation.add(member)
    return train, validation, by_synset, solution


def _build(path: Path) -> cache.Parts:
    train, validation, by_synset, solution = _found(path)
    if by_synset.names and validation.names:
        raise UserError(
            f"{path} holds {os.fsdecode(validation.names[0])!r} beside the folders of synsets in "
            f"val/, {len(validation.names)} such images in all: pack it again, with each of them "
            "in the folder of its synset."
        )
    for part, found in (("train", train), ("val", by_synset if by_synset.names else validation)):
        if not found.names:
            raise UserError(
                f"{path} holds no images in {part}/, but train/SYNSET/*.JPEG and val/*.JPEG were "
                f"expected, as in Kaggle's {NAME}: download that one."
            )
    if by_synset.names:
        where = str(path)
        return {
            "train": _images(path, train, where),
            "validation": _images(path, by_synset, where),
        }
    known = {}
    if solution is not None:
        content = ZIP_MEMBERS.read([os.fsencode(path)], solution.entries())[0]
        known = folders.read_solution(path / folders.SOLUTION, content)
    names = [name.rsplit(b"/", 1)[1] for name in validation.names]
    validation.labels = folders.flat_labels(names, f"{path}:val", known)
    where = folders.SOLUTION if known else str(path)
    return {
        "train": _images(path, train, str(path)),
        "validation": _images(path, validation, where),
    }


def _images(path: Path, found: _Found, where: str) -> Images:
    names = official.checked(found.names, found.labels, where)
    rows = official.sorted_by_name(found.entries(), names, where)
    return Images((os.fsencode(path),), rows, ZIP_MEMBERS)


def members(path: Path) -> Iterator[Member]:
    """Lists the entries of a zip.

    Args:
        path: The zip.

    Yields:
        Each entry, in the zip's order.

    Raises:
        UserError: If it is no whole zip, or encrypted.
        OSError: If it can't be read.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=1 << 20) as file:
        count, length, start = _end(path, file, size)
        file.seek(start)
        for _ in range(count):
            header = file.read(ENTRY.size)
            if len(header) < ENTRY.size or header[:4] != b"PK\x01\x02":
                raise _broken(path, "its list of entries is damaged")
            _, flags, method, packed, unpacked, *lengths, offset = ENTRY.unpack(header)
            name, extra, _ = (file.read(length) for length in lengths)
            if flags & ENCRYPTED:
                raise UserError(
                    f"{path} holds {os.fsdecode(name)!r} encrypted, but images are read in place: "
                    "unpack it with its password, and give the folder."
                )
            sizes = _widened([unpacked, packed, offset], extra)
            if sizes is None or sizes[2] + sizes[1] > start:
                raise _broken(path, "an entry lies behind its end")
            yield Member(name, method, sizes[1], sizes[0], sizes[2])


def _end(path: Path, file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Number of entries, and length and start of their list."""
    tail = min(size, END.size + 0xFFFF + LOCATOR64.size)
    file.seek(size - tail)
    content = file.read(tail)
    place = content.rfind(b"PK\x05\x06")
    if place < 0 or place + END.size > len(content):
        raise _broken(path, "its end is missing")
    *_, count, length, start, _ = END.unpack_from(content, place)
    if count == 0xFFFF or WIDE in (length, start):
        place -= LOCATOR64.size
        if place < 0 or content[place : place + 4] != b"PK\x06\x07":
            raise _broken(path, "its end is damaged")
        file.seek(LOCATOR64.unpack_from(content, place)[2])
        record = file.read(END64.size)
        if record[:4] != b"PK\x06\x06" or len(record) < END64.size:
            raise _broken(path, "its end is damaged")
        *_, count, length, start = END64.unpack(record)
    if start + length > size:
        raise _broken(path, "its list of entries is missing")
    return count, length, start


def _widened(numbers: list[int], extra: bytes) -> list[int] | None:
    """The numbers, those that take 64 bits from the extra field; None if that lacks them."""
    if WIDE not in numbers:
        return numbers
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1:
            wide = list(struct.unpack_from(f"<{length // 8}Q", extra, place + 4))
            if len(wide) < numbers.count(WIDE):
                return None
            return [wide.pop(0) if number == WIDE else number for number in numbers]
        place += 4 + length
    return None


def _broken(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} is no whole zip ({problem}), but Kaggle's {NAME} was expected: download it again."
    )
