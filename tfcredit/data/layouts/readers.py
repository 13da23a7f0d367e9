"""Readers of encoded images: from files of their own, parts of archives, rows of Parquet files."""

import abc
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

LOCAL_HEADER = struct.Struct("<4s22x2H")
"""Of an entry of a zip: its mark, and the lengths of its name and of its extra field."""
SLACK = 512
"""Bytes read beyond a zip entry's size, in which its local header is expected to have room."""
SAMPLED = 1000
"""Files whose size is looked at to know that of all."""


class Reader(abc.ABC):
    """Reads the images of some entries of an index; see `images.entries` for their fields.

    Attributes:
        chunk: Images that are asked for at a time.
    """

    chunk = 16

    @abc.abstractmethod
    def read(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """Reads images.

        Args:
            files: The paths that `entries` number.
            entries: Which images.

        Returns:
            Their encoded bytes, none of what can't be read.
        """

    def size(self, files: Sequence[bytes], entries: np.ndarray) -> int:
        """Sums the sizes of images up.

        Args:
            files: The paths that `entries` number.
            entries: Which images.

        Returns:
            Bytes of the encoded images, about.
        """
        return int(np.where(entries["unpacked"] < 0, entries["size"], entries["unpacked"]).sum())

    def contents(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """What `opened` makes the encoded images of; by default these themselves.

        Args:
            files: The paths that `entries` number.
            entries: Which images.

        Returns:
            A string for each.
        """
        return self.read(files, entries)

    def opened(self, content: tf.Tensor) -> tf.Tensor:
        """The encoded image of one of `contents`, in a graph.

        Args:
            content: A scalar string.

        Returns:
            A scalar string.
        """
        return content

    @abc.abstractmethod
    def place(self, file: bytes, entry: np.void) -> str:
        """Says where an image is.

        Args:
            file: Its path.
            entry: The image.

        Returns:
            A path, and what else is needed to find it.
        """

    def reason(self, files: Sequence[bytes], entry: np.ndarray) -> str:
        """Says why an image could not be decoded.

        Args:
            files: The paths that entries number.
            entry: The image, of shape (1,).

        Returns:
            The cause, as part of a sentence.
        """
        try:
            with open(self.file(files, entry[0]), "rb"):
                pass
            content = self.read(files, entry)[0]
        except OSError as problem:
            return f"it can't be read, {problem.strerror}"
        if content:
            return "it is no image that can be decoded"
        return "it is empty" if self.size(files, entry) == 0 else "its bytes are damaged or cut off"

    def file(self, files: Sequence[bytes], entry: np.void) -> bytes:
        """The path of the file that holds an image.

        Args:
            files: The paths that entries number.
            entry: The image.

        Returns:
            The path.
        """
        return files[entry["file"]]


class WholeFiles(Reader):
    """Images in files of their own: `file` is the folder, `name` the file in it."""

    chunk = 64

    def read(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """See `Reader.read`."""
        return [_read(path) for path in self.contents(files, entries)]

    def size(self, files: Sequence[bytes], entries: np.ndarray) -> int:
        """See `Reader.size`: from some of the images."""
        some = entries[:: max(1, len(entries) // SAMPLED)]
        sizes = [os.path.getsize(path) for path in self.contents(files, some)]
        return sum(sizes) * len(entries) // max(1, len(some))

    def contents(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """Paths: TensorFlow reads files in parallel, without Python's lock."""
        numbers, names = entries["file"].tolist(), entries["name"].tolist()
        return [files[number] + b"/" + name for number, name in zip(numbers, names, strict=True)]

    def opened(self, content: tf.Tensor) -> tf.Tensor:
        """See `Reader.opened`."""
        return tf.io.read_file(content)

    def place(self, file: bytes, entry: np.void) -> str:
        """See `Reader.place`."""
        return os.fsdecode(file + b"/" + bytes(entry["name"]))

    def file(self, files: Sequence[bytes], entry: np.void) -> bytes:
        """See `Reader.file`."""
        return files[entry["file"]] + b"/" + bytes(entry["name"])


class TarMembers(Reader):
    """Images in tars: `offset` and `size` are the bytes of one."""

    def read(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """See `Reader.read`."""
        found = []
        for number, offset, size in entries[["file", "offset", "size"]].tolist():
            content = _read(files[number], offset, size)
            found.append(content if len(content) == size else b"")
        return found

    def place(self, file: bytes, entry: np.void) -> str:
        """See `Reader.place`."""
        return f"{os.fsdecode(file)}:{os.fsdecode(bytes(entry['name']))}"


class ZipMembers(TarMembers):
    """Images in a zip: `offset` is that of the local header; `unpacked` is -1 for stored ones."""

    def read(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """See `Reader.read`."""
        fields = entries[["file", "offset", "size", "unpacked"]].tolist()
        return [_unzipped(files[number], *rest) for number, *rest in fields]


class ParquetRows(Reader):
    """Images in Parquet files: row `offset` of row group `group`, which is read as a whole."""

    def read(self, files: Sequence[bytes], entries: np.ndarray) -> list[bytes]:
        """See `Reader.read`."""
        found: list[bytes] = [b""] * len(entries)
        keys, places = np.unique(entries[["file", "group"]], return_inverse=True)

        def read_group(number: int) -> None:
            file, group = keys[number]
            wanted = np.flatnonzero(places == number)
            rows = _row_group(files[file], int(group), entries["offset"][wanted])
            for place, content in zip(wanted, rows, strict=True):
                found[place] = content or b""

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(read_group, range(len(keys))))
        return found

    def size(self, files: Sequence[bytes], entries: np.ndarray) -> int:
        """See `Reader.size`: hardly anything but the images is in the files."""
        return sum(os.path.getsize(path) for path in files)

    def place(self, file: bytes, entry: np.void) -> str:
        """See `Reader.place`."""
        where = f"row {entry['offset']} of row group {entry['group']}"
        return f"{os.fsdecode(file)} ({where})"


WHOLE_FILES, TAR_MEMBERS = WholeFiles(), TarMembers()
ZIP_MEMBERS, PARQUET_ROWS = ZipMembers(), ParquetRows()


def _read(path: bytes, offset: int = 0, size: int | None = None) -> bytes:
    """Some bytes of a file, or all; none if it can't be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            if size is None:
                return file.read()
            return os.pread(file.fileno(), size, offset)
    except OSError:
        return b""


def _unzipped(path: bytes, offset: int, size: int, unpacked: int) -> bytes:
    content = _read(path, offset, LOCAL_HEADER.size + SLACK + size)
    if len(content) < LOCAL_HEADER.size:
        return b""
    mark, *lengths = LOCAL_HEADER.unpack_from(content)
    start = LOCAL_HEADER.size + sum(lengths)
    if mark != b"PK\x03\x04":
        return b""
    if start + size > len(content):
        content, start = _read(path, offset + start, size), 0
    content = content[start : start + size]
    try:
        content = content if unpacked < 0 else zlib.decompress(content, wbits=-15)
    except zlib.error:
        return b""
    return content if len(content) == (size if unpacked < 0 else unpacked) else b""


def _row_group(path: bytes, group: int, rows: np.ndarray) -> list[bytes | None]:
    import pyarrow.compute  # slowly, and few runs need it
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(os.fsdecode(path)) as file:
            table = file.read_row_group(group, columns=["image.bytes"], use_threads=False)
    except (OSError, pyarrow.ArrowException):
        return [None] * len(rows)
    # In as many chunks as it has: beyond 2 GB they can't be one.
    contents = pyarrow.compute.struct_field(table.column("image"), "bytes")
    return [contents[row].as_py() for row in rows.tolist()]
