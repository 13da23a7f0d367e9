"""The members of tars that lie in a file, found by their headers; nothing is unpacked."""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tfcredit.errors import UserError

BLOCK = tarfile.BLOCKSIZE


def members(file: BinaryIO, name: Path | str, start: int, end: int) -> Iterator[tarfile.TarInfo]:
    """Lists the files of a tar.

    Args:
        file: The file that holds it.
        name: What messages call it.
        start: Its first byte.
        end: The byte behind its last.

    Yields:
        Its files, in its order; their offsets count from byte 0 of `file`.

    Raises:
        UserError: If it is no whole tar, or holds links or paths that leave its folder.
    """
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
