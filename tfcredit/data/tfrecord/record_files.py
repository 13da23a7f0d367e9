"""Files of a data set, local or in a bucket (`gs://`), and the frames of TFRecord files."""

import fnmatch
import functools
import os
import struct

import tensorflow as tf

from tfcredit.errors import UserError

FRAME_BYTES = 16
"""Bytes of a record beside its content: 8 of length and two checksums of 4."""


def _unreachable(place: str, error: tf.errors.OpError) -> UserError:
    reason = str(error.message).strip().splitlines()[0].rstrip(".")
    return UserError(
        f"{place} can't be read ({reason}), but a folder or bucket within reach was expected: "
        "check its name, the network and your permissions."
    )


def list_files(folder: str, pattern: str = "*") -> list[str]:
    """Lists the files of a folder whose names match a pattern.

    Args:
        folder: The folder, local or `gs://`; its own name may hold any character.
        pattern: Name with the wildcards of `fnmatch`.

    Returns:
        Sorted paths, folders left out; none if the folder does not exist.

    Raises:
        UserError: If the bucket or folder can't be reached.
    """
    try:
        # Not `gfile.glob`, which takes the folder's name for a pattern too.
        names = fnmatch.filter(tf.io.gfile.listdir(folder), pattern)
        found = [os.path.join(folder, name) for name in sorted(names)]
        return [path for path in found if not tf.io.gfile.isdir(path)]
    except tf.errors.NotFoundError:
        return []
    except tf.errors.OpError as error:
        raise _unreachable(folder, error) from error


def size(path: str) -> int:
    """Size of a file in bytes.

    Args:
        path: The file.

    Returns:
        The number of bytes.

    Raises:
        UserError: If it can't be read.
    """
    try:
        return tf.io.gfile.stat(path).length
    except tf.errors.OpError as error:
        raise _unreachable(path, error) from error


def walk(path: str, place: int = 0) -> tuple[int, bool]:
    """Counts the records of a TFRecord file by its headers, without reading the contents.

    Args:
        path: The file.
        place: Byte to start at, the first of a record.

    Returns:
        The number of records from there, one that is cut off included, and True if the last one
        is whole.

    Raises:
        UserError: If the file can't be read.
    """
    end, count = size(path), 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while place < end:
            file.seek(place)
            header = file.read(8)
            length = struct.unpack("<Q", header)[0] if len(header) == 8 else end
            place += length + FRAME_BYTES
            count += 1
    return count, place == end


def count_records(path: str, allow_cut: bool = False) -> int:
    """Counts the records of a TFRecord file by its headers.

    Args:
        path: The file.
        allow_cut: True to count a last record that is cut off too, False to refuse it.

    Returns:
        The number of records.

    Raises:
        UserError: If the file can't be read, is compressed, or ends in the middle of a record.
    """
    count, whole = walk(path)
    if not whole:
        refuse_compressed(path)
    if not (whole or allow_cut):
        raise UserError(
            f"{path} ends in the middle of record {count}, but whole TFRecords were expected: "
            "copy or make the file again, or set max_corrupt_records to go on without it."
        )
    return count


def refuse_compressed(path: str) -> None:
    """Refuses a file that is compressed, by its first two bytes.

    Args:
        path: A file whose records don't end where it does.

    Raises:
        UserError: It starts as files of GZIP or ZLIB do, or it can't be read.
    """
    start = _read(path, 2)
    for method, magic in (("GZIP", [b"\x1f\x8b"]), ("ZLIB", [b"x\x01", b"x\x9c", b"x\xda"])):
        if start in magic:
            raise UserError(
                f"{path} is compressed with {method}, but TFRecords that are not compressed were "
                "expected: uncompress the files, or write them again without compression."
            )


def _read(path: str, count: int) -> bytes:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(count)
    except tf.errors.OpError as error:
        raise _unreachable(path, error) from error


def whole_records(path: str) -> int:
    """Counts the records that lie within a TFRecord file, by its headers.

    TensorFlow's reader (2.21) believes a length whose checksum is right, however large it is, and
    a process that asks for so much memory ends without an exception.

    Args:
        path: The file.

    Returns:
        The number of records before the first that would end behind the file; -1, for all, in a
        bucket, where each header is a request of its own.

    Raises:
        UserError: If the file can't be read.
    """
    return -1 if "://" in path else _whole_records(path, size(path))


@functools.lru_cache(maxsize=4096)  # of each file once, not in each epoch
def _whole_records(path: str, _: int) -> int:
    count, whole = walk(path)
    return count if whole else count - 1


def first_record(path: str) -> bytes | None:
    """Reads the first record of a TFRecord file.

    Args:
        path: The file.

    Returns:
        Its content, or None if the file is empty, compressed or damaged there.

    Raises:
        UserError: If the file can't be read.
    """
    header = _read(path, 8)
    if len(header) < 8 or struct.unpack("<Q", header)[0] + FRAME_BYTES > size(path):
        return None
    try:
        records = list(tf.data.TFRecordDataset(path).take(1).as_numpy_iterator())
    except tf.errors.DataLossError:
        return None
    except tf.errors.OpError as error:
        raise _unreachable(path, error) from error
    return records[0] if records else None
