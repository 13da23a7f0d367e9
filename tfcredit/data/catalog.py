"""Image sets by name."""

import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable
from typing import Any

from tfcredit.data import embedded, imagenet
from tfcredit.data.image_data import ImageData
from tfcredit.errors import UserError


def names() -> list[str]:
    """The names that `get` knows.

    Returns:
        The names, sorted.
    """
    return ["auto", "embedded", "imagenet"]


def get(name: str, data_dir: str | os.PathLike | None = None, **options: Any) -> ImageData:
    """Gets an image set by its name.

    Args:
        name: "embedded" (12,000 + 2,000 images of Fashion-MNIST, inside the package), "imagenet"
            (TFRecord shards in the classic format) or "auto": ImageNet if its shards are found,
            else the embedded set.
        data_dir: Folder of ImageNet's shards; by default `imagenet2012` under the folder that the
            environment variable TFDS_DATA_DIR names or under `~/tensorflow_datasets`.
        **options: `augment=` for both sets; `image_size=` and `shuffle_buffer=` for ImageNet. See
            `tfcredit.data.embedded.build` and `tfcredit.data.imagenet.build`.

    Returns:
        The set; its `chosen_because` says which one was taken and why.

    Raises:
        UserError: If the name or an option is unknown, or the set is not there or damaged.

    Example:
        >>> data = get("embedded")
        >>> data.train_examples, data.input_shape
        (12000, (28, 28, 1))
    """
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else "choose one of them."
        raise UserError(f"unknown data set {name!r}, known are {', '.join(names())}: {hint}")
    reason = f"data set: {name}, as asked for."
    if name == "auto":
        name, reason = _choose(data_dir)
    if name == "imagenet":
        data = _build(name, imagenet.build, options, data_dir=data_dir)
    else:
        data = _build(name, embedded.build, options)
    return dataclasses.replace(data, chosen_because=reason)


def _choose(data_dir: str | os.PathLike | None) -> tuple[str, str]:
    """The set that "auto" stands for, and the sentence that says so."""
    folder = imagenet.locate(data_dir)
    if folder is not None:
        return "imagenet", f"data set: IMAGENET, because its TFRecord shards are in {folder}."
    looked = imagenet.default_dirs() if data_dir is None else [data_dir]
    return "embedded", (
        "data set: the EMBEDDED part of Fashion-MNIST (12,000 small grey images), NOT ImageNet, "
        "because no TFRecord shards train-* and validation-* were found in "
        f"{' or '.join(map(str, looked))}."
    )


def _build(
    name: str, builder: Callable[..., ImageData], options: dict[str, Any], **fixed: Any
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
