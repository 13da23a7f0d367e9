"""Files of directories that others may have written: regular ones inside, of a bounded size."""

import os
import pathlib
import stat
from typing import BinaryIO


class NotRead(Exception):
    """A file that is not read; the message says why, behind its name."""


def open_inside(folder: pathlib.Path, path: pathlib.Path) -> BinaryIO:
    """Opens a file for reading, without waiting for anybody.

    Args:
        folder: The directory that it must lie in, links followed.
        path: The file.

    Returns:
        The open file, of bytes.

    Raises:
        NotRead: It is not there, no regular file, outside of the folder, or may not be read.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(folder.resolve()):
            raise NotRead("leads out of the run directory")
        # A named pipe would wait for a writer.
        file = os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (OSError, RuntimeError, ValueError) as problem:  # a loop of links, a name with a zero
        raise NotRead(
            f"can't be opened ({getattr(problem, 'strerror', None) or problem})"
        ) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotRead("is no regular file")
    return file


def read_text(folder: pathlib.Path, path: pathlib.Path, most: int) -> str:
    """The text of a file; what is no UTF-8 becomes a question mark in a box.

    Args:
        folder: See `open_inside`.
        path: The file.
        most: Bytes that it may have.

    Returns:
        Its text.

    Raises:
        NotRead: As `open_inside`, or it is larger.
    """
    with open_inside(folder, path) as file:
        try:
            content = file.read(most + 1)
        except OSError as problem:
            raise NotRead(f"can't be read ({problem.strerror or problem})") from None
    if len(content) > most:
        raise NotRead(f"is larger than {most // 2**20} MiB")
    return content.decode(errors="replace")
