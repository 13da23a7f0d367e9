"""Arrays of the user's own as an image set: in memory, or in a `.npz` file."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcredit.checks import choice, did_you_mean, integer
from tfcredit.data.arrays import (
    ArraySource,
    as_array,
    as_images,
    as_labels,
    count_classes,
    told_classes,
)
from tfcredit.data.image_data import ImageData
from tfcredit.errors import UserError
from tfcredit.files import place

KEYS = {part: (f"x_{part}", f"y_{part}") for part in ("train", "test", "val")}
"""Part -> the names of its images and labels in a file."""
PARTS = {"train": "training", "test": "test", "val": "validation"}
"""Part -> its name in `ImageData.fingerprints`."""
DAMAGED = (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
DAMAGED += (MemoryError,)
"""What NumPy raises where a file is no archive of arrays, a damaged one, or one of huge shapes."""


def build(
    data_dir: str | os.PathLike | None = None,
    *,
    preprocessing: str | None = None,
    augment: bool = False,
) -> ImageData:
    """Builds a set of the arrays in a file.

    Args:
        data_dir: A `.npz` file of `numpy.savez` with `x_train` and `y_train`, and if there are such
            `x_test`, `y_test`, `x_val` and `y_val`; see `of_parts`.
        preprocessing: See `of_parts`.
        augment: See `of_parts`.

    Returns:
        The set; there are as many classes as the largest label says.

    Raises:
        UserError: If the file is missing, damaged or lacks arrays, or they are wrong.
    """
    if data_dir is None:
        raise UserError(
            "data set 'arrays' needs data_dir, a .npz file with x_train, y_train, x_test and "
            "y_test: give one; arrays in memory are for tfcredit.train in Python."
        )
    path = place(data_dir)
    if not path.is_file():
        what = "is no file" if path.exists() else "is missing"
        raise UserError(
            f"{path} {what}, but a .npz file of numpy.savez with x_train and y_train was "
            "expected: check data_dir."
        )
    arrays = _read(path)
    known = [name for names in KEYS.values() for name in names]
    for name in arrays:
        if name not in known:
            raise UserError(
                f"{path} holds the array {name!r}, known are {', '.join(known)}: rename it or "
                f"leave it out{did_you_mean(name, known)}"
            )
    parts = {}
    for part, names in KEYS.items():
        there = [name for name in names if name in arrays]
        if len(there) == 1 or part == "train" and not there:
            missing = next(name for name in names if name not in arrays)
            raise UserError(f"{path} holds no {missing}: save it too, by numpy.savez.")
        if there:
            parts[part] = tuple(arrays[name] for name in names)
    return of_parts(parts, None, preprocessing, augment, f"the file {path}")


def _read(path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except DAMAGED as problem:
        raise UserError(
            f"{path} can't be read as a .npz file of arrays ({' '.join(str(problem).split())}): "
            "write it by numpy.savez."
        ) from None


def of_parts(
    parts: Mapping[str, tuple[Any, Any]],
    classes: int | None = None,
    preprocessing: str | None = None,
    augment: bool = False,
    where: str = "memory",
) -> ImageData:
    """Builds a set of arrays.

    Args:
        parts: "train", and if there are such "test" and "val" -> images (n, h, w, c), uint8 in 0
            to 255 or floating point; and labels (n,), whole numbers from 0 on.
        classes: Number of classes; by default one more than the largest label.
        preprocessing: By default the images are normalised by mean and standard deviation of each
            channel of the training images; "raw" leaves them as they are.
        augment: True to flip and shift training images.
        where: Where they are, for messages.

    Returns:
        The set. Without "test" it has no test images: hold images out.

    Raises:
        UserError: If a shape, dtype or label is wrong.
    """
    if preprocessing is not None:
        choice("preprocessing", preprocessing, ["raw"])
    images, labels = {}, {}
    for part, (x, y) in parts.items():
        images[part] = as_images(x, f"x_{part}")
        labels[part] = as_array(y, f"y_{part}")
    if not len(images["train"]):
        raise UserError("x_train holds 0 images, but at least 1 is needed: give some.")
    classes = count_classes(labels.values()) if classes is None else classes
    integer("classes", classes, at_least=2)
    pairs = {
        part: (images[part], as_labels(labels[part], len(images[part]), classes, f"y_{part}"))
        for part in parts
    }
    train = pairs["train"]
    none = train[0][:0], train[1][:0]
    test, validation = pairs.get("test", none), pairs.get("val", none)
    mean, std = None, None
    if preprocessing == "raw":
        channels = train[0].shape[-1]
        mean = (0.0,) * channels
        std = (1 / 255 if train[0].dtype == np.uint8 else 1.0,) * channels
    source = ArraySource(train, test, mean, std, augment, validation)
    return ImageData(
        "arrays",
        classes,
        tuple(train[0].shape[1:]),
        len(train[0]),
        len(test[0]),
        source,
        f"data set: arrays in {where}, {len(train[0])} training and {len(test[0])} test images of "
        f"{told_classes(classes, train[1])}.",
        validation_examples=len(validation[0]),
        fingerprints={PARTS[part]: _digest(*pairs[part], classes) for part in pairs},
    )


def _digest(images: np.ndarray, labels: np.ndarray, classes: int) -> str:
    """A fingerprint of arrays."""
    found = hashlib.sha256(str(classes).encode())
    for array in (images, labels):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data if array.size else b"")
    return found.hexdigest()[:16]
