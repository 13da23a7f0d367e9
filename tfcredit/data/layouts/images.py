"""`Images`: the index of one part of a set: which images there are, where, of which class."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from tfcredit.data.layouts.readers import Reader

FIELDS = [
    ("file", "i4"),
    ("offset", "i8"),
    ("size", "i8"),
    ("unpacked", "i8"),
    ("group", "i4"),
    ("label", "i4"),
]
"""What an entry holds beside the image's name: see `entries`."""


def entries(
    names: Sequence[bytes],
    labels: Sequence[int] | np.ndarray,
    *,
    files: Sequence[int] | np.ndarray,
    offsets: Sequence[int] | np.ndarray | int = 0,
    sizes: Sequence[int] | np.ndarray | int = -1,
    unpacked: Sequence[int] | np.ndarray | int = -1,
    groups: Sequence[int] | np.ndarray | int = -1,
) -> np.ndarray:
    """Makes the entries of an index.

    Args:
        names: Names of the images, as bytes: a name may be in any encoding.
        labels: Their classes, counted from 0.
        files: The number of the file, or the folder, that holds each.
        offsets: The byte of the file at which each starts, or its row.
        sizes: The number of bytes in the file; -1 if that is not known.
        unpacked: The number of bytes after unpacking; -1 if it is not packed.
        groups: The number of the part of its file that is read as a whole; -1 where an image is
            read alone.

    Returns:
        A structured array of shape (n,).
    """
    names = np.array(names, np.bytes_)
    width = max(1, names.dtype.itemsize)
    found = np.empty(len(names), [("name", f"S{width}"), *FIELDS])
    values = (names, files, offsets, sizes, unpacked, groups, labels)
    for field, value in zip(found.dtype.names, values, strict=True):
        found[field] = value
    return found


def fingerprint(names: bytes, labels: Sequence[int] | np.ndarray) -> str:
    """Hashes what images are called and which classes they have.

    Args:
        names: Their names, with line breaks between them.
        labels: Their classes, in the same order.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(names)
    digest.update(np.asarray(labels, "<i4").tobytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a part of a set.

    Attributes:
        files: Paths of the files, or folders, that hold them.
        entries: One for each image: see `entries`.
        reader: Reads them.
    """

    files: tuple[bytes, ...]
    entries: np.ndarray
    reader: Reader

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def is_grouped(self) -> bool:
        """True if images are read in groups, not one by one."""
        return len(self) > 0 and self.entries["group"].max() >= 0

    def take(self, places: np.ndarray) -> "Images":
        """Takes some of the images.

        Args:
            places: Their numbers.

        Returns:
            A part of these alone.
        """
        return dataclasses.replace(self, entries=self.entries[places])

    def read(self, places: np.ndarray) -> list[bytes]:
        """Reads images.

        Args:
            places: Their numbers.

        Returns:
            The encoded images, none of what can't be read.
        """
        return self.reader.read(self.files, self.entries[places])

    def contents(self, places: np.ndarray) -> list[bytes]:
        """What the reader's `opened` makes the encoded images of.

        Args:
            places: Their numbers.

        Returns:
            A string for each.
        """
        return self.reader.contents(self.files, self.entries[places])

    def size(self) -> int:
        """Sums the images' sizes up.

        Returns:
            Bytes of the encoded images, about.
        """
        return self.reader.size(self.files, self.entries)

    def where(self, place: int) -> str:
        """Says where an image is.

        Args:
            place: Its number.

        Returns:
            The path of its file, and what else is needed to find it.
        """
        entry = self.entries[place]
        return self.reader.place(self.files[entry["file"]], entry)

    def reason(self, place: int) -> str:
        """Says why an image could not be decoded.

        Args:
            place: Its number.

        Returns:
            The cause, as part of a sentence.
        """
        return self.reader.reason(self.files, self.entries[place : place + 1])

    def order(self, random: np.random.RandomState, buffer: int) -> np.ndarray:
        """Draws an order.

        It is one of all orders, whatever the layout, if images are read one by one or all of them
        fit into the buffer. Else groups are drawn, and then images within blocks of `buffer`.

        Args:
            random: Where it is drawn from.
            buffer: Number of images in a block.

        Returns:
            The images' numbers, int64.
        """
        if not self.is_grouped or buffer >= len(self):
            return random.permutation(len(self))
        groups = self.groups()
        rank = random.permutation(groups.max() + 1)
        order = np.argsort(rank[groups], kind="stable")
        for start in range(0, len(order), buffer):
            random.shuffle(order[start : start + buffer])
        return order

    def is_sorted_by_class(self) -> bool:
        """True if most groups hold images of one class, so that `order` shuffles few together."""
        if not self.is_grouped:
            return False
        groups, labels = self.groups(), self.entries["label"].astype(np.int64)
        number = int(groups.max()) + 1
        kinds = len(np.unique(groups * (int(labels.max()) + 1) + labels))
        # Two classes where one ends; of a single image nothing is told.
        return len(self) >= 8 * number and kinds <= 2 * number and len(np.unique(labels)) > 2

    def groups(self) -> np.ndarray:
        """Numbers the groups of all files.

        Returns:
            int64 of shape (n,): the group of each image, counted from 0.
        """
        return np.unique(self.entries[["file", "group"]], return_inverse=True)[1]
