"""ImageNet from TFRecord shards in the classic format (`train-00000-of-01024` and so on)."""

import os
import re
from pathlib import Path

from tfcredit.data.image_data import ImageData
from tfcredit.data.records import RecordSource, count_records
from tfcredit.errors import UserError

CLASSES = 1000
KNOWN_COUNTS = {("train", 1024): 1_281_167, ("validation", 128): 50_000}
"""Records in the shards of the whole ImageNet, by part and number of shards."""


def find_shards(data_dir: Path, part: str) -> list[Path]:
    """Lists the shards of a part.

    Args:
        data_dir: The folder to look in.
        part: "train" or "validation".

    Returns:
        Paths in the order of their names; none if the folder or the files do not exist.

    Raises:
        UserError: If the names tell of more shards than there are.
    """
    pattern = re.compile(rf"{part}-\d+(?:-of-(\d+))?")
    matches = {path: pattern.fullmatch(path.name) for path in sorted(data_dir.glob(f"{part}-*"))}
    shards = {path: match for path, match in matches.items() if match and path.is_file()}
    totals = {int(match[1]) for match in shards.values() if match[1]}
    if totals and totals != {len(shards)}:
        raise UserError(
            f"{data_dir} holds {len(shards)} shards of {part}, but their names tell of "
            f"{' or '.join(map(str, sorted(totals)))}: complete the set or remove the other files."
        )
    return list(shards)


def has_shards(data_dir: Path) -> bool:
    """Whether a folder holds training and validation shards.

    Args:
        data_dir: The folder.

    Returns:
        True if there is at least one of each.

    Raises:
        UserError: If shards are missing from a numbered set.
    """
    return all(find_shards(data_dir, part) for part in ("train", "validation"))


def default_dirs() -> list[Path]:
    """Where ImageNet is looked for when nobody says where it is.

    Returns:
        `imagenet2012` under the folder that TFDS_DATA_DIR names, if any, and under
        `~/tensorflow_datasets`.
    """
    roots = [os.environ.get("TFDS_DATA_DIR"), Path.home() / "tensorflow_datasets"]
    return [Path(root) / "imagenet2012" for root in roots if root]


def locate(data_dir: str | os.PathLike | None) -> Path | None:
    """Finds the folder of the shards.

    Args:
        data_dir: The one folder to look in, or None for `default_dirs`.

    Returns:
        The first folder that has shards, or None.

    Raises:
        UserError: If shards are missing from a numbered set.
    """
    folders = default_dirs() if data_dir is None else [Path(data_dir).expanduser()]
    return next((folder for folder in folders if has_shards(folder)), None)


def build(
    data_dir: str | os.PathLike | None = None,
    *,
    image_size: int = 224,
    augment: bool = True,
    shuffle_buffer: int = 2048,
) -> ImageData:
    """Builds ImageNet with the "resnet" preprocessing.

    Args:
        data_dir: Folder of the shards; by default the first of `default_dirs` that has some.
        image_size: Height and width of the images to give, in pixels.
        augment: Whether training images are cropped and flipped at random.
        shuffle_buffer: How many undecoded records (about 110 KB each) are held to be shuffled.

    Returns:
        The set, of colour images in 1000 classes.

    Raises:
        UserError: If there are no shards, or some are missing or cut off, or an option is no
            positive number.
    """
    for name, value in (("image_size", image_size), ("shuffle_buffer", shuffle_buffer)):
        if value < 1:
            raise UserError(f"{name} {value} is not positive: choose one of at least 1.")
    folder = locate(data_dir)
    if folder is None:
        looked = default_dirs() if data_dir is None else [Path(data_dir).expanduser()]
        raise UserError(
            f"no ImageNet in {' or '.join(map(str, looked))}, where TFRecord shards named "
            "train-* and validation-* were looked for: give their folder as data_dir."
        )
    train, test = find_shards(folder, "train"), find_shards(folder, "validation")
    counts = _count("train", train), _count("validation", test)
    source = RecordSource(train, test, *counts, image_size, augment, shuffle_buffer)
    return ImageData("imagenet", CLASSES, (image_size, image_size, 3), *counts, source)


def _count(part: str, shards: list[Path]) -> int:
    """Number of records, known or counted (a pass over 1.3 million headers takes a while)."""
    known = KNOWN_COUNTS.get((part, len(shards)))
    return known if known is not None else sum(map(count_records, shards))
