"""TensorFlow's checkpoints, whose files are looked at before its reader sees them.

The reader (TensorFlow 2.21) takes a path for a pattern, waits for who writes into a named pipe,
and allocates what the end of a damaged index asks for, upon which the process aborts.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfcredit.files import scratch

FOOTER = 48
"""Bytes at the end of an index: two places in the file, zeros, and a number that marks the end."""
UNREADABLE = (tf.errors.OpError, OSError, ValueError, TypeError, LookupError, RuntimeError)
"""What reading a damaged checkpoint raises."""


@contextlib.contextmanager
def checkpoint_reader(prefix: str | os.PathLike) -> Iterator[Any]:
    """Open a checkpoint.

    Args:
        prefix: Of its files; it may hold any character. An address such as `gs://...` is read
            without being looked at.

    Yields:
        TensorFlow's reader, which is of use within the block only.

    Raises:
        UNREADABLE: The files are missing or damaged; so may do what the reader is asked for.
    """
    prefix = os.fspath(prefix)
    with contextlib.ExitStack() as links:
        if "://" not in prefix:
            path = pathlib.Path(prefix)
            _check_files(path)
            _check_footer(path.with_name(f"{path.name}.index"))
            prefix = _plain(path, links)
        yield tf.train.load_checkpoint(prefix)


def reason(problem: Exception) -> str:
    """The first line of what an error says, without its place in a graph, <= 200 characters."""
    lines = str(getattr(problem, "message", None) or problem).splitlines()
    return re.sub(r"^\{\{.*?\}\} ?", "", lines[0])[:200] if lines else type(problem).__name__


def _check_files(prefix: pathlib.Path) -> None:
    for path in prefix.parent.iterdir():
        ours = path.name.startswith((f"{prefix.name}.index", f"{prefix.name}.data-"))
        if ours and not path.is_file():
            raise ValueError(f"{path.name} is no regular file")


def _plain(prefix: pathlib.Path, links: contextlib.ExitStack) -> str:
    """A path that is no pattern."""
    if not set("[]*?\\") & set(str(prefix)):
        return str(prefix)
    folder = pathlib.Path(links.enter_context(scratch())) / "link"
    folder.mkdir()
    for path in prefix.parent.iterdir():
        if path.name.startswith((f"{prefix.name}.index", f"{prefix.name}.data-")):
            ending = path.name.removeprefix(prefix.name)
            (folder / f"checkpoint{ending}").symlink_to(path.absolute())
    return str(folder / "checkpoint")


def _check_footer(index: pathlib.Path) -> None:
    """Check two lengths that have no check sum."""
    size = index.stat().st_size
    with index.open("rb") as file:
        file.seek(max(0, size - FOOTER))
        numbers = _varints(file.read(), 4)
    if size < FOOTER or any(start + length > size for start, length in zip(*numbers, strict=True)):
        raise ValueError("its index is cut or overwritten")


def _varints(data: bytes, count: int) -> tuple[list[int], list[int]]:
    """The first numbers of some bytes, 7 bits in each: those at even and those at odd places."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    numbers = [*numbers, *[2**63] * count][:count]
    return numbers[::2], numbers[1::2]
