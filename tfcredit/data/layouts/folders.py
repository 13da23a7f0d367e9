"""Folders by synset, `train/n01440764/*.JPEG`; validation images in folders too, or flat.

Kaggle's copy has this layout below `ILSVRC/Data/CLS-LOC`.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfcredit.data.folder_index import ENDINGS
from tfcredit.data.layouts import cache, official
from tfcredit.data.layouts.images import Images, entries
from tfcredit.data.layouts.readers import WHOLE_FILES
from tfcredit.errors import UserError

SYNSET = re.compile(r"n\d{8}")
VALIDATION = ("val", "validation")
KAGGLE = Path("ILSVRC", "Data", "CLS-LOC")
SOLUTION = "LOC_val_solution.csv"
"""Kaggle's file of the validation images' classes."""

Solution = Mapping[bytes, bytes]


def has_folders(root: Path) -> bool:
    """Looks for folders that are named as synsets.

    Args:
        root: A folder.

    Returns:
        True if `train/` has one.

    Raises:
        OSError: If it can't be read.
    """
    train = root / "train"
    if not train.is_dir():
        return False
    with os.scandir(train) as found:
        return any(SYNSET.fullmatch(entry.name) for entry in found)


def index(root: Path, solution: Path | None = None) -> cache.Parts:
    """Finds the images.

    Args:
        root: The folder of `train/` and `val/`.
        solution: Kaggle's file of the validation images' classes, if there is one.

    Returns:
        Part ("train", "validation") -> its images.

    Raises:
        UserError: If the validation images or their labels are missing, a folder is no synset, or
            names contradict each other.
        OSError: If a folder can't be read.
    """
    validation = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    if validation is None:
        raise UserError(
            f"{root} holds train/ but neither val/ nor validation/, and validation images are "
            "needed: put them there."
        )
    parts = {"train": root / "train", "validation": validation}
    folders = {part: _below(path) for part, path in parts.items()}
    needed = [*parts.values(), *sum(folders.values(), [])]
    needed += [solution] if solution else []

    def build() -> cache.Parts:
        found = {"train": by_synset(parts["train"], folders["train"])}
        if folders["validation"]:
            found["validation"] = by_synset(validation, folders["validation"])
        else:
            found["validation"] = _flat(validation, read_solution(solution))
        return found

    return cache.kept(root, "folders", needed, WHOLE_FILES, build)


def by_synset(root: Path, folders: list[Path]) -> Images:
    """Lists the images in folders named as synsets.

    Args:
        root: The folder above them.
        folders: The folders.

    Returns:
        The images.

    Raises:
        UserError: If a folder is no synset of ILSVRC2012 or holds no image, or an image is named
            as of another synset or lies beside the folders.
        OSError: If a folder can't be read.
    """
    if loose := _images(root):
        raise UserError(
            f"{root} holds {os.fsdecode(min(loose))!r} beside the folders of synsets, {len(loose)} "
            "such images in all: move each into the folder of its synset, or away."
        )
    names, labels, files, official_names = [], [], [], []
    for number, folder in enumerate(folders):
        label = official.class_of(os.fsencode(folder.name), str(root))
        found = _images(folder)
        if not found:
            inner = next((f", only the folder {one.name!r}" for one in _below(folder)), "")
            raise UserError(
                f"{folder} is the folder of a class but holds no image{inner}: put its images "
                "right into it, or remove it."
            )
        names += found
        official_names += official.checked(found, [label] * len(found), str(folder))
        labels += [label] * len(found)
        files += [number] * len(found)
    rows = entries(names, labels, files=files)
    paths = tuple(os.fsencode(folder) for folder in folders)
    rows = official.sorted_by_name(rows, official_names, str(root))
    return Images(paths, rows, WHOLE_FILES)


def _flat(folder: Path, solution: Solution) -> Images:
    names = _images(folder)
    labels = flat_labels(names, str(folder), solution)
    rows = entries(names, labels, files=[0] * len(names))
    checked = official.checked(names, labels, SOLUTION if solution else str(folder))
    rows = official.sorted_by_name(rows, checked, str(folder))
    return Images((os.fsencode(folder),), rows, WHOLE_FILES)


def flat_labels(names: Iterable[bytes], where: str, solution: Solution) -> list[int]:
    """Labels validation images that lie in no folders of classes.

    Args:
        names: The images.
        where: Where they are, for the message.
        solution: Image -> synset, as Kaggle's file has it; without it the images' numbers tell.

    Returns:
        A class for each, counted from 0.

    Raises:
        UserError: If there is no label of an image.
    """
    labels, known = [], official.validation_classes()
    for name in names:
        stem, number = name.rsplit(b".", 1)[0], official.named(name).number
        if stem in solution:
            labels.append(official.class_of(solution[stem], SOLUTION))
        elif not solution and 1 <= number <= len(known):
            labels.append(known[number - 1])
        else:
            source = f"it is not in {SOLUTION}" if solution else "it is in no folder of a synset"
            raise UserError(
                f"{where} holds {os.fsdecode(name)!r} without a label, as {source}: sort the "
                "images into folders by synset, or give them ILSVRC2012's names."
            )
    return labels


def read_solution(path: Path | None, content: bytes | None = None) -> dict[bytes, bytes]:
    """Reads Kaggle's file of the validation images' classes.

    Args:
        path: The file; None for none.
        content: Its content, if it is there already.

    Returns:
        Image without ending -> synset; none without a file.

    Raises:
        UserError: If it is another file.
        OSError: If it can't be read.
    """
    if path is None:
        return {}
    content = path.read_bytes() if content is None else content
    # Spreadsheets put a mark of the encoding first.
    rows = csv.DictReader(content.decode("utf-8-sig", errors="replace").splitlines())
    try:
        columns = rows.fieldnames or ["none"]
        if {"ImageId", "PredictionString"} <= set(columns):
            pairs = [(row["ImageId"] or "", row["PredictionString"] or "") for row in rows]
            return {image.encode(): boxes.split(" ")[0].encode() for image, boxes in pairs}
        shown = "".join(one if one.isprintable() else "?" for one in ", ".join(columns)[:100])
        found = f"has the columns {shown}"
    except csv.Error as problem:
        found = f"is no table ({problem})"
    raise UserError(
        f"{path} {found}, but ImageId and PredictionString were expected: download Kaggle's file "
        "again."
    )


def _below(folder: Path) -> list[Path]:
    """The folders in a folder; a synset's link that leads nowhere counts: it is meant for one."""
    with os.scandir(folder) as found:
        names = [
            entry.name
            for entry in found
            if entry.name[0] != "."
            and (entry.is_dir() or (entry.is_symlink() and SYNSET.fullmatch(entry.name)))
        ]
    return [folder / name for name in sorted(names)]


def _images(folder: Path) -> list[bytes]:
    with os.scandir(os.fsencode(folder)) as found:
        names = [entry.name for entry in found]
    ending = tuple(os.fsencode(one) for one in ENDINGS)
    return [name for name in names if name.lower().endswith(ending) and name[:1] != b"."]
