"""What ILSVRC2012's names say: of a training image its synset, of a validation image its number."""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfcredit.data.layouts.images import fingerprint as hashed
from tfcredit.data.synsets import synsets, validation_synsets
from tfcredit.errors import UserError

TRAIN_NAME = re.compile(rb"(n\d{8}_\d+)(?:_n\d{8})?(?:\.\w+)?")
"""`n01440764_10026.JPEG`, and as Hugging Face names it, `n01440764_10026_n01440764.JPEG`."""
VALIDATION_NAME = re.compile(rb"(ILSVRC2012_val_(\d{8}))(?:_n\d{8})?(?:\.\w+)?")
BESIDE = re.compile(rb"^.*/|(?:_n\d{8})?(?:\.\w+)?$", re.MULTILINE)
"""What a layout adds to a name: folders, the synset again, and the ending."""
SYNSET = re.compile(rb"(?<![A-Za-z0-9])n\d{8}(?!\d)")


class Named(NamedTuple):
    """An image's name.

    Attributes:
        name: As the archives of ILSVRC2012 have it, if it is one of theirs.
        synsets: All that it names.
        number: Of a validation image, counted from 1; 0 if it is none.
    """

    name: bytes
    synsets: list[bytes]
    number: int


def named(path: bytes) -> Named:
    """Takes a name apart.

    Args:
        path: A file's name, with or without folders and ending.

    Returns:
        What it says.
    """
    name = path.rsplit(b"/", 1)[-1]
    found = SYNSET.findall(path)
    if match := TRAIN_NAME.fullmatch(name):
        return Named(match[1] + b".JPEG", found, 0)
    if match := VALIDATION_NAME.fullmatch(name):
        return Named(match[1] + b".JPEG", found, int(match[2]))
    return Named(name, found, 0)


@functools.cache
def numbers() -> dict[bytes, int]:
    """The classes of ILSVRC2012.

    Returns:
        Synset -> number of its class, counted from 0.

    Raises:
        UserError: If tensorflow-datasets, which has the list, is not installed.
    """
    return {synset.encode(): number for number, synset in enumerate(synsets())}


@functools.cache
def validation_classes() -> tuple[int, ...]:
    """The classes of the 50,000 validation images.

    Returns:
        A class for each, counted from 0.

    Raises:
        UserError: If tensorflow-datasets, which has the list, is not installed.
    """
    known = numbers()
    return tuple(known[synset.encode()] for synset in validation_synsets())


def class_of(synset: bytes, where: str) -> int:
    """Gets the class of a synset.

    Args:
        synset: Such as b"n01440764".
        where: Who names it, for the message.

    Returns:
        Its number, counted from 0.

    Raises:
        UserError: If it is none of ILSVRC2012's.
    """
    known = numbers()
    if synset not in known:
        raise UserError(
            f"{where} names {synset.decode(errors='replace')!r}, which is none of ILSVRC2012's "
            f"{len(known)} synsets: remove it, or give --dataset=folder for classes of your own."
        )
    return known[synset]


def checked(paths: Sequence[bytes], labels: Sequence[int], where: str) -> list[bytes]:
    """Checks labels against what the images' names say.

    Args:
        paths: Names of the images.
        labels: Their classes, counted from 0.
        where: Who labels them, for the message.

    Returns:
        The names as the archives of ILSVRC2012 have them; others as they are.

    Raises:
        UserError: If a label is outside the 1000 classes or contradicts its image's name.
    """
    known, validation, names = numbers(), validation_classes(), []
    for path, label in zip(paths, labels, strict=True):
        if not 0 <= label < len(known):
            raise UserError(
                f"{where} gives {_text(path)} the label {label}, but 0 to {len(known) - 1} were "
                "expected of ILSVRC2012's classes: give ImageNet, or --dataset=folder."
            )
        name, found, number = named(path)
        names.append(name)
        said = [known.get(synset, -1) for synset in found]
        if 1 <= number <= len(validation):
            said.append(validation[number - 1])
        wrong = next((each for each in said if each != label), None)
        if wrong is not None:
            raise UserError(_contradiction(path, label, wrong, where))
    return names


def sorted_by_name(found: np.ndarray, names: Sequence[bytes], where: str) -> np.ndarray:
    """Sorts entries by name, so that all layouts have the images in one order.

    Args:
        found: Entries: see `images.entries`.
        names: The images' names, as `checked` returns them.
        where: Where they were found, for the message.

    Returns:
        The entries, sorted.

    Raises:
        UserError: If there is none, or one of ILSVRC2012's images is there twice.
    """
    if not len(found):
        raise UserError(f"{where} holds no image: give a folder with ImageNet's images.")
    keys = np.array(names, np.bytes_)
    order = np.lexsort([found["offset"], found["group"], found["file"], keys])
    keys = keys[order]
    for name in keys[1:][keys[1:] == keys[:-1]].tolist():
        if TRAIN_NAME.fullmatch(name) or VALIDATION_NAME.fullmatch(name):
            raise UserError(
                f"{where} holds {_text(name)!r} twice: remove one, so that each image counts once."
            )
    return found[order]


def fingerprint(found: np.ndarray) -> str:
    """Hashes names and classes so that copies of a set in other layouts have the same.

    Args:
        found: Entries: see `images.entries`; sorted.

    Returns:
        16 hexadecimal digits.
    """
    return hashed(BESIDE.sub(b"", b"\n".join(found["name"].tolist())), found["label"])


def _contradiction(path: bytes, label: int, said: int, where: str) -> str:
    names = synsets()
    other = names[said] if said >= 0 else "no synset of ILSVRC2012"
    return (
        f"{where} says that {_text(path)} is of class {label} ({names[label]}), but its name says "
        f"{other}: the labels must count ILSVRC2012's synsets in sorted order, from 0."
    )


def _text(path: bytes) -> str:
    return path.decode(errors="replace")
