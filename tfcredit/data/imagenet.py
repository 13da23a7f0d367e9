"""ImageNet: TFRecord shards, on disk or in a bucket, or one of `layouts` on a disk."""

import os
import re
import warnings
from pathlib import Path

from tfcredit import checks
from tfcredit.data import preprocessing as preprocessings
from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.image_data import ImageData
from tfcredit.data.indexed import IndexedSource
from tfcredit.data.layouts import official
from tfcredit.data.layouts.finding import EXPECTED, Layout, find, indexed
from tfcredit.data.tfrecord import record_files
from tfcredit.data.tfrecord.record_format import detect
from tfcredit.data.tfrecord.source import from_files
from tfcredit.errors import UserError
from tfcredit.ilsvrc2012 import CLASSES, IMAGES

KNOWN_COUNTS = {("train", 1024): IMAGES["train"], ("validation", 128): IMAGES["validation"]}
"""Records in the shards of the whole ImageNet, by part and number of shards."""

ENDING = r"(?:\.(?:tfrecords?|tfrec|records?))?(?:\.gz)?"
"""What may stand behind the number of a shard."""


def find_shards(data_dir: str | os.PathLike, part: str) -> list[str]:
    """Lists the shards of a part.

    Args:
        data_dir: The folder to look in, local or `gs://`.
        part: "train" or "validation".

    Returns:
        Paths in the order of their names; none if the folder or the files do not exist.

    Raises:
        UserError: If the names tell of more shards than there are, or the folder is out of reach.
    """
    folder = os.fspath(data_dir)
    pattern = re.compile(rf"(?!\.)(?:.*-)?{part}(?:\.tfrecord)?-\d+(?:-of-(\d+))?{ENDING}")
    found = record_files.list_files(folder, f"*{part}*-*")
    matches = {path: pattern.fullmatch(os.path.basename(path)) for path in found}
    shards = {path: match for path, match in matches.items() if match}
    totals = {int(match[1]) for match in shards.values() if match[1]}
    if totals and totals != {len(shards)}:
        raise UserError(
            f"{folder} holds {len(shards)} shards of {part}, but their names tell of "
            f"{' or '.join(map(str, sorted(totals)))}: complete the set or remove the other files."
        )
    return list(shards)


def has_shards(data_dir: str | os.PathLike) -> bool:
    """Looks for training and validation shards in a folder.

    Args:
        data_dir: The folder, local or `gs://`.

    Returns:
        True if there is at least one of each.

    Raises:
        UserError: If shards are missing from a numbered set, one of the two parts is missing, or
            the folder is out of reach.
    """
    found = {part: len(find_shards(data_dir, part)) for part in ("train", "validation")}
    if any(found.values()) and not all(found.values()):
        missing, there = sorted(found, key=found.get)
        raise UserError(
            f"{os.fspath(data_dir)} holds {found[there]} shards {there}-* but none {missing}-*, "
            "and both parts are needed: complete the set."
        )
    return all(found.values())


def default_dirs() -> list[str]:
    """Lists the folders that ImageNet is looked for in by default.

    Returns:
        `imagenet2012` under the folder that TFDS_DATA_DIR names, if any, and under
        `~/tensorflow_datasets`.
    """
    roots = [os.environ.get("TFDS_DATA_DIR"), str(Path.home() / "tensorflow_datasets")]
    return [os.path.join(root, "imagenet2012") for root in roots if root]


def candidates(data_dir: str | os.PathLike | None) -> list[str]:
    """Lists the folders that shards are looked for in.

    Args:
        data_dir: The one folder to look in, or None for `default_dirs`.

    Returns:
        The folders.
    """
    if data_dir is None:
        return default_dirs()
    return [os.path.expanduser(os.fspath(data_dir))]


def locate(data_dir: str | os.PathLike | None) -> Layout | None:
    """Finds ImageNet.

    Args:
        data_dir: The one folder to look in, or Kaggle's zip; None for `default_dirs`.

    Returns:
        The layout in the first folder that has it, "shards" for TFRecords; or None.

    Raises:
        UserError: If the set is incomplete or out of reach.
    """
    for folder in candidates(data_dir):
        if has_shards(folder):
            return Layout("shards", "its TFRecord shards", folder, dict)
        if (found := find(folder)) is not None:
            return found
    return None


def build(
    data_dir: str | os.PathLike | None = None,
    *,
    preprocessing: str = "resnet",
    image_size: int | None = None,
    augment: bool = True,
    shuffle_buffer: int = 2048,
    max_corrupt_records: int = 0,
) -> ImageData:
    """Builds ImageNet.

    TFRecord shards may have the keys of the classic scripts or those of TensorFlow Datasets. Other
    layouts are read in place: folders by synset, Kaggle's copy, also in its zip, Hugging Face's
    Parquet files, WebDataset's tars, and the archives of image-net.org.

    Args:
        data_dir: Folder of the images, local, or with shards `gs://`; or Kaggle's zip. By default
            the first of `default_dirs` that has some.
        preprocessing: "resnet", "inception" or "raw"; see `tfcredit.data.preprocessing`.
        image_size: Height and width of the images to give, in pixels; by default 224 for "resnet"
            and 299 for "inception".
        augment: True to crop and flip training images at random.
        shuffle_buffer: Number of undecoded images (about 110 KB each) held to be shuffled, of
            shards and Parquet files. Images of other layouts are read one by one, in any order.
        max_corrupt_records: Number of corrupt images that are left out before one is an error.

    Returns:
        The set, of colour images in 1000 classes.

    Raises:
        UserError: If there are no images, some are missing, cut off or out of reach, their labels
            contradict their names, or an option is wrong.
    """
    layout = locate(data_dir)
    if layout is None:
        raise UserError(
            f"no ImageNet in {' or '.join(candidates(data_dir))}, where TFRecord shards named "
            f"train-* and validation-* were looked for, and {EXPECTED}: give their folder as "
            "data_dir; folders of classes that have other names are the data set 'folder'."
        )
    options = {
        "preprocessing": preprocessing,
        "image_size": image_size,
        "augment": augment,
        "shuffle_buffer": shuffle_buffer,
    }
    log = CorruptLog(max_corrupt_records)
    if layout.name != "shards":
        return _indexed(layout, log, **options)
    parts = {part: find_shards(layout.root, part) for part in ("train", "validation")}
    counts = [count(part, shards, log) for part, shards in parts.items()]
    files = list(parts.values())
    record_format = detect(*files)
    return from_files("imagenet", CLASSES, files, counts, record_format, log, **options)


def _indexed(
    layout: Layout,
    log: CorruptLog,
    preprocessing: str,
    image_size: int | None,
    augment: bool,
    shuffle_buffer: int,
) -> ImageData:
    preprocess, image_size = preprocessings.sized(preprocessing, image_size)
    checks.positive(shuffle_buffer=shuffle_buffer)
    parts = indexed(layout)
    if len(parts["train"]) > shuffle_buffer and parts["train"].is_sorted_by_class():
        warnings.warn(
            f"the training images in {layout.root} are sorted by class, and {layout.what} are read "
            f"in row groups, of which those of {shuffle_buffer} images are shuffled at a time: "
            "batches will hold few classes. Shuffle the set, or prepare shards of it "
            "(tfcredit prepare-imagenet) from another layout.",
            stacklevel=3,
        )
    source = IndexedSource(
        parts["train"],
        parts["validation"],
        CLASSES,
        preprocess,
        image_size,
        augment,
        log,
        shuffle_buffer=shuffle_buffer,
    )
    shape, sizes = (image_size, image_size, 3), (len(parts["train"]), len(parts["validation"]))
    names = {"training": "train", "test": "validation"}
    marks = {part: official.fingerprint(parts[name].entries) for part, name in names.items()}
    return ImageData(
        "imagenet", CLASSES, shape, *sizes, source, "", log.records, fingerprints=marks
    )


def count(part: str, shards: list[str], log: CorruptLog) -> int:
    """Returns the number of records: known, or counted in a pass over all headers.

    Known is the number of ImageNet in its usual number of shards, if the first of them is as long
    as it must be.

    Args:
        part: "train" or "validation".
        shards: Its files.
        log: Log of corrupt records, whose limit says if damage is allowed.

    Returns:
        The number.

    Raises:
        UserError: If a file is cut off or empty and no corrupt record is allowed.
    """
    allow_cut = log.limit > 0
    # A copy that failed leaves an empty file. Each size in a bucket is a request of its own.
    local = [path for path in shards if "://" not in path]
    if not allow_cut and (empty := [path for path in local if not record_files.size(path)]):
        raise UserError(
            f"{empty[0]} is empty, but TFRecords were expected: copy or make the file again, or "
            "set max_corrupt_records to go on without it."
        )
    first = record_files.count_records(shards[0], allow_cut)
    known = KNOWN_COUNTS.get((part, len(shards)))
    # The whole set is split evenly; another set in as many shards has other numbers of records.
    if known is not None and first in (known // len(shards), known // len(shards) + 1):
        return known
    return first + sum(record_files.count_records(path, allow_cut) for path in shards[1:])
