"""WebDataset's tars: an image `KEY.jpg` with its label in `KEY.cls` or `KEY.json`.

The tars of `timm/imagenet-1k-wds` are such: `imagenet1k-train-0000.tar` and so on. In a folder for
each part they may be numbers alone: `train/0000.tar`.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfcredit.data.folder_index import ENDINGS
from tfcredit.data.layouts import cache, official
from tfcredit.data.layouts.images import Images, entries
from tfcredit.data.layouts.readers import TAR_MEMBERS
from tfcredit.data.layouts.shard_files import matched, several, shard_files
from tfcredit.data.layouts.tars import members
from tfcredit.errors import UserError

SHARD = r"(?!\.)(?:.*-)?(train|val|validation)-(\d+)(?:-of-(\d+))?"
NAME = re.compile(SHARD + r"\.tar")
PACKED = re.compile(SHARD + r"\.(?:tar\.(?:gz|bz2|xz|zst|lz4)|tgz)")
LABELS = "cls", "json"
"""The endings of labels."""
FOLDERS = "", "train", "val", "validation"
"""Where the tars may lie."""


def has_tars(root: Path) -> bool:
    """Looks for tars that are named as WebDataset's are.

    Args:
        root: A folder, which may have one of each part.

    Returns:
        True if there is one.

    Raises:
        OSError: If the folder can't be read.
    """
    return bool(_named(root, NAME))


def refuse_packed(root: Path) -> None:
    """Refuses compressed tars, where there is nothing else.

    Args:
        root: A folder, which may have one of each part.

    Raises:
        UserError: If there are some.
        OSError: If the folder can't be read.
    """
    if packed := sorted(_named(root, PACKED)):
        raise UserError(
            f"{root} holds {packed[0]!r}, which is compressed, but images are read in place: "
            f"unpack each of its {len(packed)} such files to a plain .tar."
        )


def _named(root: Path, name: re.Pattern) -> list[str]:
    there = [folder for folder in FOLDERS if (root / folder).is_dir()]
    return [
        file
        for folder in there
        for file in os.listdir(root / folder)
        if matched(name, file, folder)
    ]


def index(root: Path) -> cache.Parts:
    """Finds the images.

    Args:
        root: The folder of the tars.

    Returns:
        Part ("train", "validation") -> its images.

    Raises:
        UserError: If tars are missing or damaged, or a sample has no image, no label, or one that
            contradicts its name.
        OSError: If a tar can't be read.
    """
    parts = shard_files(root, NAME, FOLDERS)

    def build() -> cache.Parts:
        return {part: _images(paths) for part, paths in parts.items()}

    return cache.kept(root, "webdataset", sum(parts.values(), []), TAR_MEMBERS, build)


def _images(paths: Sequence[Path]) -> Images:
    names, checked, labels, files, offsets, sizes = [], [], [], [], [], []
    for number, path in enumerate(paths):
        found = list(_samples(path))
        keys = [name for name, *_ in found]
        names += keys
        labels += (its := [label for _, label, *_ in found])
        checked += official.checked(keys, its, str(path))
        files += [number] * len(found)
        offsets += [offset for *_, offset, _ in found]
        sizes += [size for *_, size in found]
    rows = entries(names, labels, files=files, offsets=offsets, sizes=sizes)
    rows = official.sorted_by_name(rows, checked, several(paths))
    return Images(tuple(os.fsencode(path) for path in paths), rows, TAR_MEMBERS)


def _samples(path: Path) -> Iterator[tuple[bytes, int, int, int]]:
    """Of each sample of a tar the image's name, its label, first byte and number of bytes."""
    images: dict[str, tuple[bytes, int, int]] = {}
    labels: dict[str, dict[str, tuple[str, bytes]]] = {}
    others: dict[str, str] = {}
    with path.open("rb") as file, path.open("rb") as contents:
        for member in members(file, path, 0, path.stat().st_size):
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            key, ending = f"{folder}/{stem}", ending.lower()
            if f".{ending}" in ENDINGS:
                first = os.fsdecode(images[key][0]) if key in images else None
                images[key] = os.fsencode(member.name), member.offset_data, member.size
            elif ending in LABELS:
                first, _ = labels.setdefault(key, {}).get(ending, (None, b""))
                contents.seek(member.offset_data)
                labels[key][ending] = member.name, contents.read(member.size)
            else:
                last = ending.rpartition(".")[2]
                if stem and last in LABELS:
                    raise _dotted(path, member.name, key)
                if stem and f".{last}" in ENDINGS:  # such as `KEY.mask.png`, a second image
                    others[key] = member.name
                continue
            if first is not None:
                raise UserError(
                    f"sample {key.lstrip('/')!r} of {path} has {first!r} and then {member.name!r}, "
                    "but one image and one label of a kind were expected: write the tar again, "
                    "with a key of its own for each image."
                )
    for key, name in others.items():
        if key not in images:
            raise _dotted(path, name, key)
    for key in images.keys() | labels.keys():
        if key not in images or key not in labels:
            lacks = f"{' or '.join(LABELS)} with its label" if key in images else "image"
            raise UserError(
                f"sample {key.lstrip('/')!r} of {path} has no {lacks}, but KEY.jpg and KEY.cls "
                "or KEY.json were expected: write the tar again."
            )
    for key, (name, offset, size) in images.items():
        stated = {f"{key}.{kind}": content for kind, (_, content) in labels[key].items()}
        found = {_label(content, where, path) for where, content in stated.items()}
        found -= {None}
        if len(found) != 1:
            what = f"the labels {sorted(found)}" if found else "no label"
            raise UserError(
                f"sample {key.lstrip('/')!r} of {path} has {what}, but one class number was "
                "expected in KEY.cls, or as label in KEY.json: write the tar again."
            )
        yield name, found.pop(), offset, size


def _dotted(path: Path, name: str, key: str) -> UserError:
    return UserError(
        f"{path} holds {name!r}, but KEY.jpg and KEY.cls or KEY.json were expected of the sample "
        f"{key.lstrip('/')!r}, as a key ends at the first dot: write the tar again, with keys "
        "without dots."
    )


def _label(content: bytes, name: str, path: Path) -> int | None:
    """The class that a file of a sample states; None if it states none."""
    text = content.decode(errors="replace").strip()
    if name.endswith(".json"):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(
                f"{name.lstrip('/')!r} of {path} is no JSON object, but one with a label was "
                "expected: write the tar again."
            )
        text = str(found.get("label", found.get("cls", "")))
    if re.fullmatch(r"-?\d{1,9}", text):
        return int(text)
    if re.fullmatch(r"n\d{8}", text):
        return official.class_of(text.encode(), str(path))
    return None
