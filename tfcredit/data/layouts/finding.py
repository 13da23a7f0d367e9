"""Finds out in which layout someone has ImageNet."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

from tfcredit.data.layouts import archives, folders, parquet, webdataset, zipped
from tfcredit.data.layouts.cache import Parts
from tfcredit.errors import UserError

EXPECTED = (
    "folders by synset, Kaggle's copy or its zip, Hugging Face's Parquet files, WebDataset's tars, "
    "or the archives of image-net.org"
)
"""The layouts, for messages."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """ImageNet as someone has it.

    Attributes:
        name: "folders", "kaggle", "zip", "parquet", "webdataset" or "archives".
        what: What was found, for messages.
        root: The folder or file.
        index: Finds the images: part ("train", "validation") -> its images.
    """

    name: str
    what: str
    root: Path | str
    index: Callable[[], Parts]


def find(place: str | os.PathLike) -> Layout | None:
    """Looks for ImageNet in a folder; TFRecord shards are not looked for.

    Args:
        place: The folder, or Kaggle's zip.

    Returns:
        Its layout; None if there is none, or `place` is an address or not there.

    Raises:
        UserError: If it can't be read.
    """
    if "://" in os.fspath(place):
        return None
    root = Path(place)
    try:
        if root.is_file():
            return _of_file(root)
        return _of_folder(root) if root.is_dir() else None
    except OSError as problem:
        raise _unreadable(problem, root) from None


def indexed(layout: Layout) -> Parts:
    """Finds the images of a layout.

    Args:
        layout: The layout.

    Returns:
        Part ("train", "validation") -> its images.

    Raises:
        UserError: If its files are incomplete, damaged or contradict each other, or can't be read.
    """
    try:
        return layout.index()
    except OSError as problem:
        raise _unreadable(problem, layout.root) from None


def _unreadable(problem: OSError, root: Path | str) -> UserError:
    place = os.fsdecode(problem.filename or root)  # folders are listed by bytes too
    return UserError(
        f"{place} can't be read ({problem.strerror}): check that it is there, and its permissions."
    )


def _of_file(path: Path) -> Layout:
    if path.suffix.lower() != ".zip":
        raise UserError(
            f"{path} is a file, but a folder was expected, or Kaggle's {zipped.NAME}: give the "
            "folder that holds it."
        )
    return Layout("zip", "Kaggle's zip", path, functools.partial(zipped.index, path))


def _of_folder(root: Path) -> Layout | None:
    if archives.has_archives(root):
        return Layout(
            "archives", "the archives of ILSVRC2012", root, functools.partial(archives.index, root)
        )
    if (files := parquet.folder(root)) is not None:
        return Layout("parquet", "Parquet files", files, functools.partial(parquet.index, files))
    if webdataset.has_tars(root):
        return Layout(
            "webdataset", "WebDataset's tars", root, functools.partial(webdataset.index, root)
        )
    for above, images in ((root, root / folders.KAGGLE), (root.parent, root / "Data" / "CLS-LOC")):
        if folders.has_folders(images):
            solution = above / folders.SOLUTION
            solution = solution if solution.is_file() else None
            build = functools.partial(folders.index, images, solution)
            return Layout("kaggle", "Kaggle's folders", images, build)
    if folders.has_folders(root):
        return Layout("folders", "folders by synset", root, functools.partial(folders.index, root))
    packed = root / zipped.NAME
    if packed.is_file():
        return _of_file(packed)
    webdataset.refuse_packed(root)
    return None
