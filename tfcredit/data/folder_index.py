"""The index of a folder of images: which there are, without opening one."""

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from tfcredit.errors import UserError
from tfcredit.files import written

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp")
"""The endings of image files, in lower case."""
LARGE = 10_000
"""Images from which on the index is kept in a file."""
CACHE = ".tfcredit_index.json"
"""That file's name, in the folder of the images."""
SETTLED = 2_000_000_000
"""Nanoseconds after which a folder's time tells of each change, on any file system."""
VERSION = 2
"""Of the cache's format."""
TELL_EVERY = 100_000
"""Images between two lines that tell of the progress."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds itself, hidden entries left out.

    Attributes:
        stamp: Size and time of change of the folder, in bytes and nanoseconds.
        folders: Names of its folders, sorted.
        images: Names of its images, sorted.
        others: Names of its other files, sorted.
    """

    stamp: tuple[int, int]
    folders: list[str]
    images: list[str]
    others: list[str]


class Tree:
    """The listings of a folder and of all folders below it.

    A folder's name, size and time of change tell whether it has been listed before: a file that
    was added, removed or renamed changes them. The root is listed each time, as the index itself
    may be written there.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path):
        self.root = root
        self._started = time.time_ns()
        self._known = _read(root)
        self._listed: dict[str, Listing] = {}
        self._images = 0
        self._fresh = False

    def listing(self, folder: str = "") -> Listing:
        """Lists a folder.

        Args:
            folder: Its path below the root.

        Returns:
            What it holds.

        Raises:
            UserError: If it can't be read.
        """
        if folder in self._listed:
            return self._listed[folder]
        path = self.root / folder
        try:
            stat = path.stat()
            stamp = stat.st_size, stat.st_mtime_ns
            found = self._known.get(folder) if folder else None
            if found is None or found.stamp != stamp:
                found = _listing(path, stamp)
                self._fresh |= folder != ""
        except OSError as problem:
            raise UserError(
                f"{path} can't be read ({problem.strerror}): check the folder and its permissions."
            ) from None
        self._listed[folder] = found
        return found

    def images(self, folder: str) -> tuple[list[str], list[str]]:
        """Lists all images in a folder and below it.

        Args:
            folder: Its path below the root.

        Returns:
            Paths below the root of its images and of its other files, sorted.

        Raises:
            UserError: If a folder can't be read or leads back to itself.
        """
        images, others = self._below(folder, ())
        return sorted(images), sorted(others)

    def _below(self, folder: str, above: tuple[str, ...]) -> tuple[list[str], list[str]]:
        real = os.path.realpath(self.root / folder)
        if real in above:
            raise UserError(f"{self.root / folder} is a link to a folder above it: remove it.")
        listing = self.listing(folder)
        images = [f"{folder}/{name}" for name in listing.images]
        others = [f"{folder}/{name}" for name in listing.others]
        before, self._images = self._images, self._images + len(images)
        if self._images // TELL_EVERY > before // TELL_EVERY:
            print(f"Indexing {self.root}: {self._images} images so far", file=sys.stderr)
        for name in listing.folders:
            below = self._below(f"{folder}/{name}", (*above, real))
            images += below[0]
            others += below[1]
        return images, others

    def keep(self) -> None:
        """Writes the index of a large tree to a file, where one can be written."""
        if self._images < LARGE or not self._fresh:
            return
        # The time of a folder that was changed shortly before it was listed may not tell of a
        # change shortly after.
        settled = {k: v for k, v in self._listed.items() if self._started - v.stamp[1] > SETTLED}
        content = {
            "version": VERSION,
            "folders": {folder: dataclasses.astuple(one) for folder, one in settled.items()},
        }
        for path in _places(self.root):
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with written(path) as unfinished:
                    unfinished.write_text(json.dumps(content))
                return


def _listing(path: Path, stamp: tuple[int, int]) -> Listing:
    folders, images, others = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith(ENDINGS):
                images.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                raise UserError(  # a class could be missing without a word
                    f"{path / entry.name} is a link that leads nowhere: mend or remove it."
                )
            else:
                others.append(entry.name)
    return Listing(stamp, sorted(folders), sorted(images), sorted(others))


def _places(root: Path) -> list[Path]:
    """Where an index may lie: in the tree, or else in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:20]
    return [root / CACHE, cache / "tfcredit" / f"folder-{name}.json"]


def _read(root: Path) -> dict[str, Listing]:
    """The listings of an earlier start; none of a file that is damaged."""
    for path in _places(root):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            content = json.loads(path.read_text())
            if content["version"] == VERSION:
                found = content["folders"].items()
                return {k: Listing(tuple(stamp), *lists) for k, (stamp, *lists) in found}
    return {}
