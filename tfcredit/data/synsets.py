"""ImageNet's classes: the 1000 WordNet synsets of ILSVRC2012, and the validation images' own.

Both lists are read from the installed package `tensorflow-datasets`, which ships them.
"""

import importlib.util
import os
import re
from pathlib import Path

from tfcredit.errors import UserError
from tfcredit.ilsvrc2012 import CLASSES

SYNSET = re.compile(r"n\d{8}")


def synsets() -> tuple[str, ...]:
    """The synsets of ILSVRC2012, such as "n01440764".

    Returns:
        1000 names, sorted: the place of a name, from 0, is the number of its class.

    Raises:
        UserError: If tensorflow-datasets is not installed or does not ship the list.

    Example:
        >>> len(synsets()), synsets()[0]
        (1000, 'n01440764')
    """
    path = _shipped("labels.txt")
    names = tuple(sorted(read_synsets(path)))
    if len(set(names)) != CLASSES:
        raise UserError(
            f"{path} holds {len(set(names))} different synsets, but {CLASSES} were expected: "
            "install tensorflow-datasets again."
        )
    return names


def validation_synsets(path: str | os.PathLike | None = None) -> list[str]:
    """The classes of the validation images.

    Args:
        path: A text file with a synset per line, for images 1, 2, ...; by default the list of
            ILSVRC2012's 50,000 that tensorflow-datasets ships.

    Returns:
        A synset per validation image, in the order of the images' numbers.

    Raises:
        UserError: If the file can't be read or a line is no synset.
    """
    return read_synsets(_shipped("validation_labels.txt") if path is None else Path(path))


def read_synsets(path: Path) -> list[str]:
    """Reads a text file with a synset per line.

    Args:
        path: The file.

    Returns:
        The synsets, in the file's order.

    Raises:
        UserError: If the file can't be read or a line is no synset.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(
            f"{path} can't be read as a list of synsets ({problem}): give a text file with a "
            "synset such as n01440764 on each line."
        ) from None
    for number, line in enumerate(lines, 1):
        if not SYNSET.fullmatch(line):
            raise UserError(
                f"word {number} of {path} is {line!r}, but a synset such as n01440764 was "
                "expected: write one on each line, in the order of the images."
            )
    return lines


def _shipped(name: str) -> Path:
    """A file that tensorflow-datasets ships; found without importing that package (seconds)."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "ImageNet's list of classes is read from the package tensorflow-datasets, which is not "
            "installed: pip install tensorflow-datasets."
        )
    return Path(spec.submodule_search_locations[0], "datasets", "imagenet2012", name)
