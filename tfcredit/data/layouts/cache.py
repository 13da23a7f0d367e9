"""Keeps the index of a large set in a file, for as long as the set's files stay as they are."""

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tfcredit.data.layouts.images import Images
from tfcredit.data.layouts.readers import Reader
from tfcredit.files import written

LARGE = 10_000
"""Images from which on an index is kept."""
NAME = ".tfcredit_index.npz"
"""The file's name, in the folder of the set."""
SETTLED = 2_000_000_000
"""Nanoseconds after which a time of change tells of each change, on any file system."""
VERSION = 3
"""Of the file's format, and of what an index holds of the same files."""

Parts = dict[str, Images]


def kept(
    root: Path,
    layout: str,
    files: Sequence[Path],
    reader: Reader,
    build: Callable[[], Parts],
) -> Parts:
    """Reads an index from its file, or builds and keeps it.

    It counts only for the same files, or folders: of the same names, sizes and times of change.

    Args:
        root: The folder of the set.
        layout: Name of the layout.
        files: All that the index depends on.
        reader: Reads the images.
        build: Builds the index: for each part its images.

    Returns:
        The index.

    Raises:
        UserError: If `build` raises it.
        OSError: If a file is not there.
    """
    started = time.time_ns()  # a change right after this may leave the time of one right before
    stamps = [_stamp(path, root) for path in files]
    key = json.dumps([VERSION, layout, stamps])
    for path in places(root):
        if (found := _read(path, key, root, reader)) is not None:
            return found
    built = build()
    newest = max((stamp[2] for stamp in stamps), default=0)
    if sum(map(len, built.values())) >= LARGE and started - newest > SETTLED:
        _write(root, key, built)
    return built


def places(root: Path) -> list[Path]:
    """Lists where an index may lie: beside the set, or else in the user's cache.

    Args:
        root: The folder of the set.

    Returns:
        Two paths.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:20]
    return [root / NAME, cache / "tfcredit" / f"imagenet-{name}.npz"]


def _stamp(path: Path, root: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return os.path.relpath(path, root), stat.st_size, stat.st_mtime_ns


def _write(root: Path, key: str, parts: Parts) -> None:
    arrays = {"key": np.array(key)}
    for part, images in parts.items():
        files = [os.path.relpath(path, os.fsencode(root)) for path in images.files]
        arrays[f"{part}.files"] = np.array(files)
        arrays[f"{part}.entries"] = images.entries
    for path in places(root):
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with written(path) as unfinished:
                np.savez(unfinished, **arrays)
            return


def _read(path: Path, key: str, root: Path, reader: Reader) -> Parts | None:
    """The parts of a file with this key; None of others, and of one that is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Opened here, as `np.load` leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["key"]) != key:
                return None
            parts = [name.removesuffix(".files") for name in arrays if name.endswith(".files")]
            start = os.fsencode(root)
            return {
                part: Images(
                    tuple(os.path.join(start, one) for one in arrays[f"{part}.files"].tolist()),
                    arrays[f"{part}.entries"],
                    reader,
                )
                for part in parts
            }
    return None
