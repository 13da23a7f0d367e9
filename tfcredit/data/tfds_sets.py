"""The image-classification sets of TensorFlow Datasets, once they have been prepared."""

import os
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import ParseError

from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.encoded import attempted
from tfcredit.data.image_data import ImageData
from tfcredit.data.tfrecord import record_datasets, record_files, record_format
from tfcredit.data.tfrecord.source import PARALLEL_FILES, from_files
from tfcredit.errors import UserError

SMALL = 64
"""Largest height and width, in pixels, of sets that are kept in memory at their own size."""
MAX_BYTES = 4 * 2**30
"""Most memory that such a set may take."""


def library() -> ModuleType:
    """Imports TensorFlow Datasets, which takes a moment and which few runs need.

    Returns:
        The module `tensorflow_datasets`.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"tensorflow-datasets can't be imported ({error}), but sets of its own need it: "
            "install it with `pip install tensorflow-datasets importlib_resources`."
        ) from error
    return tensorflow_datasets


def find(name: str, data_dir: str | os.PathLike | None) -> Any | None:
    """Finds the builder of a set.

    Args:
        name: The set, such as "cifar10" or "cifar10/3.0.2".
        data_dir: Folder of prepared sets, local or `gs://`; TensorFlow Datasets' own by default.

    Returns:
        The `tfds.core.DatasetBuilder`, or None if there is no such set.

    Raises:
        UserError: If TensorFlow Datasets is missing, or the folder is damaged or out of reach.
    """
    tfds = library()
    folder = None if data_dir is None else os.path.expanduser(os.fspath(data_dir))
    try:
        return tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError:
        return None
    except (tf.errors.OpError, OSError, ValueError, ParseError) as error:
        raise UserError(
            f"data set {name!r} in {folder or 'the default folder'} can't be opened "
            f"({str(error).splitlines()[0]}), but a set that TensorFlow Datasets has prepared was "
            "expected: check the folder, or prepare the set again."
        ) from error


def build(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    preprocessing: str = "resnet",
    image_size: int | None = None,
    augment: bool = True,
    shuffle_buffer: int = 2048,
    max_corrupt_records: int = 0,
) -> ImageData:
    """Builds a set that TensorFlow Datasets has prepared; nothing is ever downloaded.

    Images that are all of one size of at most 64 pixels are kept in memory and given at that size,
    normalised with their own statistics, unless `image_size` is set; others are prepared as
    ImageNet's are.

    Args:
        name: The set, such as "cifar10" or "imagenet2012".
        data_dir: Folder of prepared sets, local or `gs://`; TensorFlow Datasets' own by default.
        preprocessing: "resnet", "inception" or "raw", for sets that are not kept in memory.
        image_size: Height and width of the images to give, in pixels.
        augment: True to change training images at random: crop and flip them, or, if small, shift
            and flip them.
        shuffle_buffer: Number of undecoded records that are held to be shuffled.
        max_corrupt_records: Number of corrupt records that are left out before one is an error.

    Returns:
        The set; the test images are those of the split "test", or else "validation" (always of
        ImageNet, whose "test" has no labels).

    Raises:
        UserError: If the set is unknown, not or half prepared, no image-classification set, or an
            option is wrong.
    """
    builder = find(name, data_dir)
    if builder is None:
        raise UserError(
            f"unknown data set {name!r}, but the name of a set of TensorFlow Datasets was "
            "expected: check its spelling."
        )
    _check_prepared(builder)
    image, classes = _features(builder)
    splits = _splits(builder)
    parts = [_files(builder, split) for split in splits]
    counts = [builder.info.splits[split].num_examples for split in splits]
    log = CorruptLog(max_corrupt_records)
    if image_size is None and None not in image.shape and max(image.shape[:2]) <= SMALL:
        _check_memory(builder, image.shape, sum(counts))
        arrays = [_load(part, image.shape, log) for part in parts]
        return _in_memory(name, arrays, classes, augment, log)
    return from_files(
        name,
        classes,
        parts,
        counts,
        record_format.TFDS,
        log,
        preprocessing=preprocessing,
        image_size=image_size,
        augment=augment,
        shuffle_buffer=shuffle_buffer,
    )


def _check_prepared(builder: Any) -> None:
    if builder.is_prepared() and builder.info.splits:
        return
    root = builder.data_path.parent.parent
    if "[" in os.fspath(root) and os.path.isdir(builder.data_path):
        raise UserError(
            f"data set {builder.name!r} is in {root}, in whose name TensorFlow Datasets takes "
            "brackets for a pattern: rename the folder, or give a link to it."
        )
    manual = " --manual_dir=FOLDER_OF_ARCHIVES" if builder.MANUAL_DOWNLOAD_INSTRUCTIONS else ""
    raise UserError(
        f"data set {builder.name!r} is not prepared, {builder.data_path} with dataset_info.json "
        "was looked for: give the folder of prepared sets as data_dir, or prepare it with "
        f"`tfds build {builder.name} --data_dir={root}{manual}`."
    )


def _features(builder: Any) -> tuple[Any, int]:
    """The image's feature and the number of classes."""
    tfds, features = library(), builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        features = {}
    image, label = (dict(features.items()).get(key) for key in ("image", "label"))
    fits = isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)
    if not fits or image.np_dtype != np.uint8 or label.num_classes is None:
        raise UserError(
            f"data set {builder.name!r} holds {', '.join(sorted(features)) or 'no features'}, but "
            "an 8-bit `image` and a `label` out of classes were expected: choose an "
            "image-classification set."
        )
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            f"data set {builder.name!r} is stored as {builder.info.file_format.value}, but "
            "tfrecord was expected: prepare it with `tfds build --file_format=tfrecord`."
        )
    return image, label.num_classes


def _splits(builder: Any) -> tuple[str, str]:
    there = list(builder.info.splits)
    wanted = ["test", "validation"]
    if builder.name.startswith("imagenet"):
        wanted.reverse()
    test = next((split for split in wanted if split in there), None)
    if "train" not in there or test is None:
        raise UserError(
            f"data set {builder.name!r} has the splits {', '.join(there)}, but train and one of "
            "test and validation were expected: choose another set."
        )
    return "train", test


def _files(builder: Any, split: str) -> list[str]:
    paths = sorted(os.fspath(path) for path in builder.info.splits[split].filepaths)
    found = set(record_files.list_files(os.fspath(builder.data_path)))
    missing = [path for path in paths if path not in found]
    if missing:
        raise UserError(
            f"data set {builder.name!r} is half prepared, {len(missing)} of its {len(paths)} files "
            f"of {split} are missing, such as {missing[0]}: copy them or prepare the set again."
        )
    return paths


def _check_memory(builder: Any, shape: tuple[int, int, int], examples: int) -> None:
    needed = int(np.prod(shape)) * examples
    if needed > MAX_BYTES:
        raise UserError(
            f"data set {builder.name!r} takes {needed / 2**30:.1f} GiB in memory, but at most "
            f"{MAX_BYTES / 2**30:.0f} are allowed: set image_size, so that it is read from files."
        )


def _in_memory(
    name: str,
    arrays: list[tuple[np.ndarray, np.ndarray]],
    classes: int,
    augment: bool,
    log: CorruptLog,
) -> ImageData:
    for split, (images, _) in zip(("training", "test"), arrays, strict=True):
        if len(images) == 0:
            raise UserError(
                f"data set {name!r} holds no {split} image that can be read, but at least 1 is "
                "needed: prepare the set again."
            )
    return ImageData.from_arrays(
        *arrays[0], *arrays[1], classes, name=name, augment=augment, corrupt=log.records
    )


def _load(
    paths: list[str], shape: tuple[int, int, int], log: CorruptLog
) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of some files that can be read; the others are reported."""

    def decode(
        file: tf.Tensor, number: tf.Tensor, record: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = record_format.TFDS.parse(record)
        image = tf.io.decode_image(encoded, channels=shape[2], expand_animations=False)
        return tf.ensure_shape(image, shape), label

    found = record_datasets.records(paths, np.arange(len(paths)), log, PARALLEL_FILES)
    count = sum(max(0, record_files.whole_records(path)) for path in paths)
    images, labels = [np.zeros((0, *shape), np.uint8)], [np.zeros(0, np.int32)]
    elements = attempted(found, decode, count).rebatch(1024)
    for image, label, good, file, number in elements.as_numpy_iterator():
        for place in np.flatnonzero(~good):
            log.report(paths[file[place]], int(number[place]), "its image can't be decoded")
        images.append(image[good])
        labels.append(label[good])
    return np.concatenate(images), np.concatenate(labels)
