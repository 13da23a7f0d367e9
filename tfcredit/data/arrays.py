"""Batches out of arrays in memory: order and augmentation drawn for the whole epoch at once."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfcredit.data.shard import Shard
from tfcredit.data.validation import drawn
from tfcredit.errors import UserError
from tfcredit.seeding import derive

MAX_SHIFT = 2
"""Pixels by which augmentation moves an image in each direction."""
MOST_CLASSES = 1_000_000
"""A label above it numbers no class, but something else."""


def as_array(values: Any, name: str) -> np.ndarray:
    """Makes an array of numbers that may be a list, a tensor or a table.

    Args:
        values: The numbers.
        name: Name of the array, for errors.

    Returns:
        The array.

    Raises:
        UserError: If they are no array, such as images of several sizes.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as problem:
        words = " ".join(str(problem).split()).rstrip(".")
        raise UserError(
            f"{name} can't be made an array ({words}): give an array of numbers, and images of one "
            "size."
        ) from None


def count_classes(labels: Iterable[np.ndarray]) -> int:
    """Counts classes by their labels.

    Args:
        labels: Arrays of labels; only whole numbers count, others are for `as_labels` to refuse.

    Returns:
        One more than the largest label, and 2 at least.

    Raises:
        UserError: If the largest label is above `MOST_CLASSES`.
    """
    largest = max([1, *(int(y.max()) for y in labels if y.size and y.dtype.kind in "iu")])
    if largest > MOST_CLASSES:
        raise UserError(
            f"label {largest} would make {largest + 1} classes: number the classes from 0, by "
            "numpy.unique(labels, return_inverse=True)[1], or state the number of classes."
        )
    return largest + 1


def told_classes(classes: int, labels: np.ndarray) -> str:
    """Says how many classes there are, and if training images of some are missing.

    Args:
        classes: Their number.
        labels: Those of the training images.

    Returns:
        A part of a sentence.
    """
    missing = np.setdiff1d(np.arange(classes), labels)
    told = f"{classes} classes"
    if len(missing):
        told += f", {len(missing)} of them without training images (such as {missing[0]})"
    return told


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


def as_images(images: np.ndarray, name: str) -> np.ndarray:
    """Checks an array of images.

    Args:
        images: uint8 (0 to 255) or floating point array of shape (n, h, w, c).
        name: Name of the array, for errors.

    Returns:
        The array, uint8 or float32.

    Raises:
        UserError: If the rank or dtype is another one, or a pixel is not finite.
    """
    images = as_array(images, name)
    if images.ndim != 4:
        raise UserError(
            f"{name} has shape {images.shape}, but (examples, height, width, channels) was "
            f"expected: reshape it (grey images with {name}[..., None], vectors of numbers with "
            f"{name}[:, None, None])."
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(
            f"{name} has dtype {images.dtype}, but uint8 (0 to 255) or floating point was "
            "expected: convert it."
        )
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise UserError(f"{name} holds NaN or infinity, but pixels must be finite: mend the array.")
    return images


def as_labels(labels: np.ndarray, examples: int, classes: int, name: str) -> np.ndarray:
    """Checks an array of labels.

    Args:
        labels: Whole numbers of shape (n,) or (n, 1), as `keras.datasets` gives them.
        examples: Number of images, which is the number of labels expected.
        classes: Number of classes.
        name: Name of the array, for errors.

    Returns:
        int32 labels of shape (n,).

    Raises:
        UserError: If the shape is another one or a label is outside [0, `classes`).
    """
    labels = as_array(labels, name)
    if labels.ndim == 2 and len(labels) == examples and labels.shape[1] > 1:
        raise UserError(
            f"{name} has shape {labels.shape}, but ({examples},) was expected, one label per "
            f"image: turn one-hot rows into labels with {name}.argmax(1)."
        )
    if labels.shape not in ((examples,), (examples, 1)):
        raise UserError(
            f"{name} has shape {labels.shape}, but ({examples},) was expected, one label per "
            "image: give as many labels as images."
        )
    check_labels(labels, classes)
    return labels.reshape(-1).astype(np.int32)


class ArraySource:
    """A data source over arrays, for `ImageData`."""

    def __init__(
        self,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        augment: bool = False,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Checks that training and test images fit together; `ImageData` has checked the rest.

        Args:
            train: Images (n, h, w, c), uint8 or float32, and int32 labels (n,).
            test: Images (m, h, w, c) and labels (m,) likewise.
            mean: Value per channel that is subtracted, after uint8 pixels are divided by 255. The
                training images' own by default.
            std: Value per channel that the difference is divided by. The training images' own by
                default; a constant channel counts as 1.
            augment: True to flip training images left to right (half of them) and to move them by
                up to `MAX_SHIFT` pixels, with zero pixels moving in.
            validation: Validation images and labels, if any.

        Raises:
            UserError: If training and test images differ in shape, or only one of them is uint8.
        """
        for name, part in (("x_test", test), ("x_val", validation)):
            if part is None:
                continue
            check_images(part[0].shape, train[0].shape[1:])
            if part[0].dtype != train[0].dtype:
                # Only uint8 is divided by 255, so the two would end on different scales.
                raise UserError(
                    f"x_train has dtype {train[0].dtype} but {name} {part[0].dtype}, and only "
                    "uint8 pixels are divided by 255: give both as uint8 or both as floating point."
                )
        self._examples = len(train[0])
        self._augment = augment
        self._given = mean, std
        self._scale = 255.0 if train[0].dtype == np.uint8 else 1.0
        if mean is None or std is None:
            own_mean, own_std = self._statistics(train[0])
            mean = own_mean if mean is None else mean
            std = own_std if std is None else std
        # tf.data runs on the host: a tensor placed on a GPU would be copied back for each batch.
        with tf.device("CPU"):
            self._mean = tf.constant(mean, tf.float32)
            self._std = tf.constant(std, tf.float32)
            self._train = tf.constant(train[0]), tf.constant(train[1])
            self._test = tf.constant(test[0]), tf.constant(test[1])
            if validation is not None:
                self._validation = tf.constant(validation[0]), tf.constant(validation[1])

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        A batch holds the same images on any number of hosts.
        """
        size = shard.piece_size(batch_size)
        steps = self._examples // batch_size
        # RandomState and not default_rng: NumPy promises that its stream never changes. All draws
        # are of one size, so an example's place and augmentation do not depend on the start.
        order = np.random.RandomState(derive(seed, "data", "order", epoch))
        order = order.permutation(self._examples).astype(np.int32)
        order = order[: steps * batch_size].reshape(steps, shard.count, shard.pieces, size)
        order = order[start_step:, shard.index].reshape(-1, size)
        if not self._augment:
            batches = tf.data.Dataset.from_tensor_slices(order)
            return batches.map(self._plain_batch).prefetch(tf.data.AUTOTUNE)
        draws = np.random.RandomState(derive(seed, "data", "augment", epoch))
        flips = draws.randint(0, 2, self._examples).astype(bool)
        shifts = draws.randint(0, 2 * MAX_SHIFT + 1, (self._examples, 2)).astype(np.int32)
        batches = tf.data.Dataset.from_tensor_slices((order, flips[order], shifts[order]))
        batches = batches.map(self._augmented_batch, num_parallel_calls=tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the test images in order; see `ImageData.evaluation`."""
        return self._in_order(self._test, batch_size, shard)

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the validation images in order; see `ImageData.validation`."""
        return self._in_order(self._validation, batch_size, shard)

    def hold_out(self, examples: int, seed: int) -> "ArraySource":
        """The source with some training images as validation images; see `ImageData.hold_out`."""
        held = drawn(self._examples, examples, seed)
        images, labels, *test = (part.numpy() for part in (*self._train, *self._test))
        kept, validation = (images[~held], labels[~held]), (images[held], labels[held])
        return ArraySource(kept, tuple(test), *self._given, self._augment, validation)

    def _in_order(
        self, part: tuple[tf.Tensor, tf.Tensor], batch_size: int, shard: Shard
    ) -> tf.data.Dataset:
        total = len(part[0])
        size, pieces = shard.piece_size(batch_size), shard.evaluation_pieces(batch_size, total)
        indices = np.zeros(pieces * size, np.int32)
        indices[: shard.examples(total)] = np.arange(shard.index, total, shard.count)
        weights = np.zeros(pieces * size, np.float32)
        weights[: shard.examples(total)] = 1
        chosen = (indices.reshape(pieces, size), weights.reshape(pieces, size))
        batch = functools.partial(self._evaluated_batch, part)
        batches = tf.data.Dataset.from_tensor_slices(chosen).map(batch)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _statistics(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation per channel of scaled images."""
        axes = (0, 1, 2)
        # dtype=, not astype: no float64 copy of the whole set.
        mean = images.mean(axes, dtype=np.float64) / self._scale
        std = images.std(axes, dtype=np.float64) / self._scale
        return mean, np.where(std > 0, std, 1.0)

    def _normalise(self, images: tf.Tensor) -> tf.Tensor:
        return (tf.cast(images, tf.float32) / self._scale - self._mean) / self._std

    def _evaluated_batch(
        self, part: tuple[tf.Tensor, tf.Tensor], indices: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images, labels = (tf.gather(one, indices) for one in part)
        images = self._normalise(images) * weights[:, None, None, None]
        return images, labels * tf.cast(weights, labels.dtype), weights

    def _plain_batch(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = (tf.gather(part, indices) for part in self._train)
        return self._normalise(images), labels

    def _augmented_batch(
        self, indices: tf.Tensor, flips: tf.Tensor, shifts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = (tf.gather(part, indices) for part in self._train)
        images = shift_and_flip(images, flips, shifts)
        return self._normalise(images), labels


def shift_and_flip(images: tf.Tensor, flips: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
    """Moves and mirrors the images of a batch, all in one gather.

    Args:
        images: Shape (n, h, w, c).
        flips: Shape (n,), bool: True to mirror the image left to right.
        shifts: Shape (n, 2), int32: top and left of the crop out of the image after padding it
            with `MAX_SHIFT` zero pixels on each side; `MAX_SHIFT` leaves the image in place.

    Returns:
        Images of the same shape and dtype.
    """
    height, width, channels = images.shape[1:]
    side = [MAX_SHIFT, MAX_SHIFT]
    padded = tf.pad(images, [[0, 0], side, side, [0, 0]])
    padded_width = width + 2 * MAX_SHIFT
    pixels = tf.reshape(padded, [-1, (height + 2 * MAX_SHIFT) * padded_width, channels])
    columns = tf.where(flips[:, None], tf.range(width)[::-1], tf.range(width))
    rows = tf.range(height) + shifts[:, :1]
    columns = columns + shifts[:, 1:]
    places = rows[:, :, None] * padded_width + columns[:, None, :]
    return tf.ensure_shape(tf.gather(pixels, places, batch_dims=1), images.shape)
