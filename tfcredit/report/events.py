"""Scalars out of TensorBoard's event files, whatever else is in them.

TensorFlow's own readers end the process at a damaged length, and give values of any size; here a
length is checked before anything is read, and no value is larger than a number.
"""

import pathlib
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2, summary_pb2, types_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tfcredit.report.files import NotRead, open_inside

MOST_BYTES = 2**29
"""Read of the event files of a run."""
MOST_RECORDS = 2_000_000
MOST_SERIES = 1_000
LARGEST_SCALAR = 2**12
"""Bytes of one scalar; larger ones are images, histograms, tensors."""
LONGEST_TAG = 1_000
LARGEST_RECORD = LARGEST_SCALAR + LONGEST_TAG
"""Bytes of a record that is read. Check sums of larger ones would take long."""

_SUMMARY, _VALUE = 5, 1
"""The numbers of an event's field, and of a summary's."""
_NUMBER, _EIGHT_BYTES, _PART, _FOUR_BYTES = 0, 1, 2, 5
"""How a field is written."""

_NUMBERS = {
    types_pb2.DT_FLOAT: (np.float32, "float_val"),
    types_pb2.DT_DOUBLE: (np.float64, "double_val"),
    types_pb2.DT_INT32: (np.int32, "int_val"),
    types_pb2.DT_INT64: (np.int64, "int64_val"),
}


def read_scalars(
    folder: pathlib.Path, run: pathlib.Path, prefix: str
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """The scalars of some tags in the event files of a folder.

    Args:
        folder: The folder.
        run: The run directory, which the files must be in.
        prefix: What the tags begin with.

    Returns:
        The rest of the tag -> step -> value, of a step that was written again the last one; and
        notes on what was left out.
    """
    values: dict[str, dict[int, float]] = defaultdict(dict)
    left_out: set[str] = set()
    notes: list[str] = []
    budget = _Budget()
    try:
        paths = sorted(path for path in folder.iterdir() if "tfevents" in path.name)
    except OSError:
        paths = []
    for path in paths:
        try:
            with open_inside(run, path) as file:
                for event in _events(file, budget, prefix, left_out):
                    _take(event, prefix, values, left_out)
        except (NotRead, OSError) as problem:
            notes.append(f"{_short(path.name)} {problem}; the rest of it is left out.")
    if left_out:
        example = _short(min(left_out))
        notes.append(
            f"{len(left_out)} tag(s) of events left out, such as {example!r}: no scalars, more "
            f"than {MOST_SERIES} of them, or in records of more than {LARGEST_RECORD // 1000} kB."
        )
    return dict(values), notes


class _Budget:
    """The bytes and values that may still be read of a run."""

    def __init__(self):
        self.bytes, self.records = MOST_BYTES, MOST_RECORDS

    def take(self, size: int) -> None:
        self.bytes -= size
        self.records -= 1
        if min(self.bytes, self.records) < 0:
            raise NotRead(f"is behind the first {MOST_BYTES // 2**20} MiB of events")


def _events(
    file: BinaryIO, budget: _Budget, prefix: str, left_out: set[str]
) -> Iterator[event_pb2.Event]:
    """The events of tags that begin so; scalars of records that are not read are left out.

    A record is its length (8 bytes), a check sum of that (4), the event, a check sum (4).
    """
    size = file.seek(0, 2)
    file.seek(0)
    place = 0
    while place < size:
        head = file.read(12)
        if len(head) < 12:
            raise NotRead("ends in the middle of a record")
        length, checked = struct.unpack("<QI", head)
        if checked != masked_crc32c(head[:8]):
            raise NotRead(f"is damaged at byte {place}")
        end = place + 16 + length
        if end > size:
            raise NotRead("ends in the middle of a record")
        if length > LARGEST_RECORD:
            budget.take(16)
            tags = (value.tag for value in _small_values(file, place + 12, end - 4, budget))
            for tag in tags:
                if tag.startswith(prefix) and len(left_out) < MOST_SERIES:
                    left_out.add(tag)
            file.seek(end)
        else:
            budget.take(16 + length)
            content, checked = file.read(length), file.read(4)
            try:
                event = event_pb2.Event.FromString(content)
            except DecodeError:
                raise NotRead(f"is damaged at byte {place}") from None
            if any(value.tag.startswith(prefix) for value in event.summary.value):
                if checked != struct.pack("<I", masked_crc32c(content)):
                    raise NotRead(f"is damaged at byte {place}")
                yield event
        place = end


def _small_values(file: BinaryIO, start: int, end: int, budget: _Budget) -> Iterator:
    """The values of an event that may be scalars, without the rest of it."""
    for number, begin, close in _parts(file, start, end, budget):
        if number != _SUMMARY:
            continue
        for inner, first, last in _parts(file, begin, close, budget):
            if inner == _VALUE and last - first <= LARGEST_RECORD:
                file.seek(first)
                try:
                    yield summary_pb2.Summary.Value.FromString(file.read(last - first))
                except DecodeError:
                    return


def _parts(file: BinaryIO, start: int, end: int, budget: _Budget) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that have a length: number, first byte, and the one behind them.

    Ends where the message is damaged.
    """
    while start < end:
        budget.take(16)
        file.seek(start)
        key, start = _varint(file), file.tell()
        value, behind = _varint(file), file.tell()
        kind = key & 7
        if kind == _PART:
            yield key >> 3, behind, min(behind + value, end)
            start = behind + value
        elif kind in (_NUMBER, _EIGHT_BYTES, _FOUR_BYTES):
            start = {_NUMBER: behind, _EIGHT_BYTES: start + 8, _FOUR_BYTES: start + 4}[kind]
        else:
            return


def _varint(file: BinaryIO) -> int:
    """A whole number as protocol buffers write it; cut after 64 bits."""
    value = 0
    for shift in range(0, 64, 7):
        (byte,) = file.read(1) or b"\0"
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value


def _take(event, prefix, values, left_out) -> None:
    for value in event.summary.value:
        tag = value.tag
        if not tag.startswith(prefix) or len(tag) > LONGEST_TAG:
            continue
        number = _number(value)
        name = tag[len(prefix) :]
        if number is None or name not in values and len(values) >= MOST_SERIES:
            if len(left_out) < MOST_SERIES:
                left_out.add(tag)
            continue
        values[name][event.step] = number


def _number(value) -> float | None:
    """The number of a summary's value, None if it holds something else."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind != "tensor" or value.tensor.dtype not in _NUMBERS:
        return None
    tensor = value.tensor
    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    dtype, field = _NUMBERS[tensor.dtype]
    if len(tensor.tensor_content) == np.dtype(dtype).itemsize:
        return float(np.frombuffer(tensor.tensor_content, dtype)[0])
    found = getattr(tensor, field)
    return float(found[0]) if len(found) == 1 and not tensor.tensor_content else None


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
