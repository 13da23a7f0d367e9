"""Image sets by name."""

import dataclasses
import inspect
import os
import re
from collections.abc import Callable
from typing import Any

from tfcredit.checks import did_you_mean
from tfcredit.data import embedded, folder, imagenet, own_arrays, streams, synthetic, tfds_sets
from tfcredit.data.image_data import ImageData
from tfcredit.errors import UserError

WITHOUT_FOLDER = {"embedded": embedded, "synthetic": synthetic}
"""Sets that are in no folder."""


def names() -> list[str]:
    """The names that `get` knows, beside those of TensorFlow Datasets.

    Returns:
        The names, sorted.
    """
    return ["arrays", "auto", "embedded", "folder", "imagenet", "synthetic"]


def get(name: str, data_dir: str | os.PathLike | None = None, **options: Any) -> ImageData:
    """Gets an image set by its name.

    Args:
        name: "embedded" (12,000 + 2,000 images of Fashion-MNIST, inside the package), "folder"
            (image files, a folder per class), "arrays" (a `.npz` file with `x_train`, `y_train`,
            `x_test` and `y_test`), "imagenet" (in any layout that `imagenet.build` lists),
            "synthetic" (random images, to measure speed without input), "auto" (ImageNet if it is
            found, else the embedded set), or the name of an image-classification set that
            TensorFlow Datasets has prepared, such as "cifar10" or "imagenet2012".
        data_dir: Folder, local or `gs://`: of the classes for "folder" (local only); of the images
            for "imagenet", by default `imagenet2012` under the folder that the environment variable
            TFDS_DATA_DIR names or under `~/tensorflow_datasets`; of the prepared sets for those of
            TensorFlow Datasets. For "arrays" the file.
        **options: Keywords of the set's `build`: see `tfcredit.data.embedded`, `folder`,
            `imagenet`, `own_arrays`, `synthetic` and `tfds_sets`.

    Returns:
        The set; its `chosen_because` says which one was taken and why.

    Raises:
        UserError: If the name or an option is unknown, the set is not there or damaged, or is in
            no folder though one is given.

    Example:
        >>> data = get("embedded")
        >>> data.train_examples, data.input_shape
        (12000, (28, 28, 1))
    """
    asked, reason = name, f"data set: {name}, as asked for."
    if name == "auto":
        name, reason = choose(data_dir)
    if name == "imagenet":
        data = _build(name, imagenet.build, options, data_dir=data_dir)
    elif name == "folder":
        return _build(name, folder.build, options, data_dir=data_dir)
    elif name == "arrays":
        return _build(name, own_arrays.build, options, data_dir=data_dir)
    elif name == streams.NAME:
        raise UserError(
            "a tf.data.Dataset was given in Python, and has no name by which it is found again: "
            "give it to tfcredit.train, or name another set."
        )
    elif name in WITHOUT_FOLDER:
        if data_dir is not None and asked == name:
            raise UserError(
                f"data set {name!r} is in no folder, but data_dir is {os.fspath(data_dir)!r}: "
                "leave it out, or name the set that is in it, such as 'folder'."
            )
        try:
            data = _build(name, WITHOUT_FOLDER[name].build, options)
        except UserError as problem:
            if asked == name:
                raise
            raise UserError(f"{problem} {reason[0].upper()}{reason[1:]}") from None
    else:
        _check_known(name, data_dir)
        data = _build(name, tfds_sets.build, options, name=name, data_dir=data_dir)
    return dataclasses.replace(data, chosen_because=reason)


def _check_known(name: str, data_dir: str | os.PathLike | None) -> None:
    """Refuses a name that TensorFlow Datasets doesn't know either."""
    if re.fullmatch(r"\w+(/[\w.*-]+)*", name) and tfds_sets.find(name, data_dir) is not None:
        return
    if os.path.exists(name):
        raise UserError(
            f"data set {name!r} is a path, but a name was expected: give 'folder' for a folder of "
            "images or 'arrays' for a .npz file, and the path as data_dir."
        )
    known = names() + tfds_sets.library().list_builders(with_community_datasets=False)
    raise UserError(
        f"unknown data set {name!r}, known are {', '.join(names())} and the image sets of "
        f"TensorFlow Datasets: choose one of them{did_you_mean(name, known)}"
    )


def choose(data_dir: str | os.PathLike | None = None) -> tuple[str, str]:
    """Choose the set that "auto" stands for, without building it.

    Args:
        data_dir: Folder in which ImageNet is looked for; see `get`.

    Returns:
        "imagenet" or "embedded", and a sentence that says why.

    Raises:
        UserError: If ImageNet is there in part or out of reach.
    """
    found = imagenet.locate(data_dir)
    if found is not None:
        return "imagenet", f"data set: IMAGENET, because {found.what} are in {found.root}."
    looked = imagenet.default_dirs() if data_dir is None else [data_dir]
    return "embedded", (
        "data set: the EMBEDDED part of Fashion-MNIST (12,000 small grey images), NOT ImageNet, "
        "because no TFRecord shards train-* and validation-*, and none of "
        f"{imagenet.EXPECTED} were found in {' or '.join(map(str, looked))}."
    )


def _build(
    name: str, builder: Callable[..., ImageData], options: dict[str, Any], /, **fixed: Any
) -> ImageData:
    """Calls a builder after checking that it knows the options."""
    known = [option for option in inspect.signature(builder).parameters if option not in fixed]
    for option in options:
        if option not in known:
            raise UserError(
                f"data set {name!r} has no option {option!r}, its options are "
                f"{', '.join(known)}: leave it out or choose one of them."
            )
    return builder(**options, **fixed)
