"""Hugging Face's copy, `ILSVRC/imagenet-1k`: `data/train-00000-of-00294.parquet` and so on."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcredit.data.layouts import cache, official
from tfcredit.data.layouts.images import Images, entries
from tfcredit.data.layouts.readers import PARQUET_ROWS
from tfcredit.data.layouts.shard_files import several, shard_files
from tfcredit.errors import UserError
from tfcredit.ilsvrc2012 import CLASSES

NAME = re.compile(r"(train|val|validation)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?\.parquet")
COLUMNS = "image.bytes", "image.path", "label"
"""As Parquet names them: `image` is a structure."""


def folder(root: Path) -> Path | None:
    """Finds the folder of the files.

    Args:
        root: The folder that was given: the repository's, or that of the files.

    Returns:
        The folder; None if there are no such files.
    """
    for place in (root, root / "data"):
        if place.is_dir() and any(NAME.fullmatch(name) for name in os.listdir(place)):
            return place
    return None


def index(root: Path) -> cache.Parts:
    """Finds the images; reads no image.

    Args:
        root: The folder of the files.

    Returns:
        Part ("train", "validation") -> its images.

    Raises:
        UserError: If files are missing, damaged or of another set, or labels contradict names.
        OSError: If a file can't be read.
    """
    parts = shard_files(root, NAME)

    def build() -> cache.Parts:
        return {part: _images(paths) for part, paths in parts.items()}

    needed = sum(parts.values(), [])
    return cache.kept(root, "parquet", needed, PARQUET_ROWS, build)


def _images(paths: Sequence[Path]) -> Images:
    columns: dict[str, list] = {name: [] for name in ("name", "label", "file", "group", "row")}
    checked: list[bytes] = []
    for number, path in enumerate(paths):
        names, labels, groups, rows = _rows(path)
        checked += official.checked(names, labels, str(path))
        values = names, labels, [number] * len(names), groups, rows
        for column, value in zip(columns.values(), values, strict=True):
            column += value
    found = entries(
        columns["name"],
        columns["label"],
        files=columns["file"],
        offsets=columns["row"],
        groups=columns["group"],
    )
    files = tuple(os.fsencode(path) for path in paths)
    where = several(paths)
    return Images(files, official.sorted_by_name(found, checked, where), PARQUET_ROWS)


def _rows(path: Path) -> tuple[list[bytes], list[int], list[int], list[int]]:
    """Of each image of a file its name, label, row group, and row in it."""
    import pyarrow.parquet  # slowly, and few runs need it

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check(path, file)
            counts = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
            table = file.read(columns=["image.path", "label"])
    except (pyarrow.ArrowException, OSError) as problem:
        reason = str(problem).splitlines()[0].rstrip(".")
        raise UserError(
            f"{path} is no whole Parquet file ({reason}): copy or download it again."
        ) from None
    names = [one["path"] if one else None for one in table.column("image").to_pylist()]
    labels = table.column("label").to_pylist()
    for row, label in enumerate(labels):
        if label is None:
            raise UserError(
                f"row {row} of {path} has no label, but each image needs one: give the files "
                "of train and validation as they were downloaded."
            )
        if type(label) is not int:
            raise UserError(
                f"row {row} of {path} has the label {label!r}, but whole numbers were expected, "
                "as in ILSVRC/imagenet-1k: write the files again with the numbers of the classes."
            )
    encoded = [os.fsencode(name or f"{path.stem}-{row:06d}") for row, name in enumerate(names)]
    groups = [group for group, count in enumerate(counts) for _ in range(count)]
    rows = [row for count in counts for row in range(count)]
    return encoded, labels, groups, rows


def _check(path: Path, file: Any) -> None:
    """Refuses a file of other columns or classes."""
    schema = file.schema
    there = {schema.column(number).path for number in range(len(schema))}
    if not set(COLUMNS) <= there:
        raise UserError(
            f"{path} has the columns {', '.join(sorted(there))}, but {', '.join(COLUMNS)} were "
            "expected, as in ILSVRC/imagenet-1k: download that set."
        )
    stated = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(stated)["info"]["features"]["label"]["names"]
    except (ValueError, KeyError, TypeError):
        return
    if len(names) != CLASSES:
        first = f", {names[0]!r} the first of them" if names else ""
        raise UserError(
            f"{path} is of a set with {len(names)} classes{first}, but ImageNet's {CLASSES} were "
            "expected: give ILSVRC/imagenet-1k."
        )
