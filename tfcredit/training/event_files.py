"""TensorBoard's event files as a run leaves them: points that a continued run repeats are dropped.

TensorBoard shows a point that is written twice twice, and points of steps that were undone.
"""

import pathlib
import struct
from collections.abc import Callable, Iterator

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tfcredit.callbacks.steps import EVENTS
from tfcredit.files import written

HEADER = struct.Struct("<QI")
"""Before each record: its length and a check sum of it; behind it one of the record, 4 bytes."""


def purge(folder: pathlib.Path, keep: Callable[[str, int], bool]) -> set[tuple[str, int]]:
    """Drop points from the event files that `event_writer` wrote to a folder.

    Those without points are deleted, unless they hold something else, such as a graph. Files of
    other writers, as a user's own of `tf.summary` or those of PyTorch, stay as they are.

    Args:
        folder: Of the event files.
        keep: Tells of a tag and its step if the point stays. Of points that are there more than
            once only the first stays.

    Returns:
        The tags and steps that stay.

    Raises:
        OSError: A file can't be read or written.
    """
    seen: set[tuple[str, int]] = set()
    for path in sorted(folder.iterdir(), key=lambda path: (_time(path), path.name)):
        is_ours = ".tfevents." in path.name and path.name.endswith(EVENTS)
        if not is_ours or not path.is_file():
            continue
        records = list(_records(path))
        if not records or not records[0][1].file_version:
            if path.stat().st_size == 0:
                path.unlink()
            continue  # not of TensorBoard
        kept, points = [], 0
        for raw, event in records:
            found = [(value.tag, event.step) for value in event.summary.value]
            stays = [point not in seen and keep(*point) for point in found]
            if all(stays):
                kept.append(raw)
                points += len(found)
                seen.update(found)
            # tf.summary writes one point an event; one that has several goes or stays as a whole.
        whole = b"".join(kept)
        if not points and all(_is_empty(event) for _, event in records[1:]):
            path.unlink()
        elif len(whole) != path.stat().st_size:
            with written(path) as unfinished:
                unfinished.write_bytes(whole)
    return seen


def _records(path: pathlib.Path) -> Iterator[tuple[bytes, Event]]:
    """The whole records of a file, up to the first one that can't be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            length, check = HEADER.unpack(header)
            # By a wrong length what follows may still read as an event.
            if masked_crc32c(header[:8]) != check or file.tell() + length + 4 > size:
                return
            content = file.read(length + 4)
            try:
                event = Event.FromString(content[:-4])
            except Exception:  # DecodeError; protobuf's implementations have it in other places
                return
            yield header + content, event


def _is_empty(event: Event) -> bool:
    """True for what holds nothing beside points."""
    return event.WhichOneof("what") in (None, "summary")


def _time(path: pathlib.Path) -> str:
    return path.name.partition(".tfevents.")[2]
