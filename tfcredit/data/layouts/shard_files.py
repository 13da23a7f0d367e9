"""Numbered files of the parts of a set, of which none may be missing."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tfcredit.errors import UserError

PARTS = {"train": "train", "val": "validation", "validation": "validation"}
"""What names say of a part -> the part."""


def shard_files(
    root: Path, name: re.Pattern, folders: Sequence[str] = ("",)
) -> dict[str, list[Path]]:
    """Lists the files of both parts.

    Args:
        root: Their folder.
        name: Matches a file's name, or its folder's, "-" and its own; its groups are the part, the
            file's number and, if the name has it, the number of files.
        folders: Folders of `root` to look into, those that are there; "" is `root` itself.

    Returns:
        Part ("train", "validation") -> its files, in the order of their numbers.

    Raises:
        UserError: If a part or one of its files is missing, or two sets are mixed.
        OSError: If the folder can't be read.
    """
    found: dict[str, dict[int, Path]] = {"train": {}, "validation": {}}
    totals: dict[str, set[int]] = {"train": set(), "validation": set()}
    there = [root / folder for folder in folders if (root / folder).is_dir()]
    for path in sorted(folder / entry for folder in there for entry in os.listdir(folder)):
        match = matched(name, path.name, path.parent.name if path.parent != root else "")
        if match is None:
            continue
        part, number = PARTS[match[1]], int(match[2])
        if number in found[part]:
            raise UserError(
                f"{root} holds {found[part][number].name} and {path.name}, two files of one "
                "number: leave one set in the folder."
            )
        found[part][number] = path
        totals[part] |= {int(match[3])} if match[3] else set()
    for part, files in found.items():
        if not files:
            raise UserError(
                f"{root} holds files of {next(one for one in found if found[one])} but none of "
                f"{part}, and both parts are needed: complete the set."
            )
        expected = max([*totals[part], *(number + 1 for number in files)])
        missing = [number for number in range(expected) if number not in files]
        if missing or len(totals[part]) > 1:
            example = next(iter(files.values())).name
            lacking = f", number {missing[0]} the first of those missing" if missing else ""
            raise UserError(
                f"{root} holds {len(files)} of {expected} files of {part} such as {example}"
                f"{lacking}: complete the set, or remove files of another one."
            )
    return {part: [files[number] for number in sorted(files)] for part, files in found.items()}


def matched(name: re.Pattern, file: str, folder: str) -> re.Match | None:
    """Takes a file's name apart, or, where it is a number alone, the folder's name with it.

    Args:
        name: As `shard_files` takes it.
        file: The file's name.
        folder: Its folder's name, such as "train"; "" for one that tells nothing.

    Returns:
        The match of `name`; None of other files.
    """
    if folder and file[0].isdigit():
        file = f"{folder}-{file}"
    return name.fullmatch(file)


def several(paths: Sequence[Path]) -> str:
    """Names the files of a part, for messages.

    Args:
        paths: The files.

    Returns:
        The first, and how many there are.
    """
    more = f" (or one of the {len(paths)} such files)" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"
