"""Checks of images and labels, with errors that say what to change."""

from collections.abc import Sequence

import numpy as np

from tfcredit.errors import UserError


def check_labels(labels: np.ndarray | Sequence[int], classes: int) -> None:
    """Checks that every label names one of the classes.

    Args:
        labels: Whole numbers of any shape.
        classes: Number of classes; labels count from 0.

    Raises:
        UserError: If a label is not a whole number in [0, `classes`).
    """
    labels = np.asarray(labels)
    if labels.size == 0:
        return
    if labels.dtype.kind not in "iu":
        raise UserError(
            f"labels have dtype {labels.dtype}, but class labels are whole numbers: "
            "convert them (one-hot rows with argmax) to an integer array."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise UserError(
            f"label {wrong} is outside [0, {classes}): "
            f"number the {classes} classes from 0, or state the right number of classes."
        )


def check_images(shape: Sequence[int | None], expected_shape: Sequence[int]) -> None:
    """Checks the height, width and channels of images.

    Args:
        shape: Shape of one image (h, w, c) or of a batch (n, h, w, c).
        expected_shape: The (h, w, c) that it must be.

    Raises:
        UserError: If the shape is another one.
    """
    shape, expected_shape = tuple(shape), tuple(expected_shape)
    if len(shape) not in (3, 4) or shape[-3:] != expected_shape:
        raise UserError(
            f"images have shape {shape}, but (height, width, channels) = {expected_shape} was "
            "expected: resize or reshape them, or choose a model for their shape."
        )
