"""A `tf.data.Dataset` of the user's own as an image set."""

import dataclasses
import hashlib
import warnings
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfcredit.checks import integer
from tfcredit.data.arrays import check_images, check_labels, count_classes, told_classes
from tfcredit.data.image_data import ImageData
from tfcredit.data.own_arrays import PARTS
from tfcredit.data.shard import Shard
from tfcredit.errors import UserError
from tfcredit.seeding import derive
from tfcredit.tensor_files import reason

NAME = "tf.data"
"""Of such a set."""
BUFFER_BYTES = 2**28
"""Most memory that the images take which are held to be shuffled."""
COMPARED = 256
"""Labels that are read twice, to see whether the order is the same."""


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """A data source over datasets of single images and labels, for `ImageData`.

    Attributes:
        datasets: "train", "test" and "val" -> dataset of float32 images and int32 labels.
        examples: The same -> number of images.
        shape: Height, width and channels.
    """

    datasets: Mapping[str, tf.data.Dataset]
    examples: Mapping[str, int]
    shape: tuple[int, int, int]

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        A batch holds the same images on any number of hosts; each host reads all of them.
        """
        size, pieces = shard.piece_size(batch_size), shard.pieces
        total, image = self.examples["train"], 4 * int(np.prod(self.shape))
        buffer = max(1, min(total, BUFFER_BYTES // image))
        seed = derive(seed, "data", "order", epoch)
        shuffled = self.datasets["train"].shuffle(buffer, seed, reshuffle_each_iteration=False)
        batches = shuffled.batch(batch_size, drop_remainder=True).skip(start_step)
        first = shard.index * pieces * size

        def mine(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels = (part[first : first + pieces * size] for part in (images, labels))
            cut = tf.reshape(images, (pieces, size, *self.shape))
            return cut, tf.reshape(labels, (pieces, size))

        return batches.map(mine).unbatch().prefetch(tf.data.AUTOTUNE)

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the test images in their order; see `ImageData.evaluation`."""
        return self._in_order("test", batch_size, shard)

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the validation images in their order; see `ImageData.validation`."""
        return self._in_order("val", batch_size, shard)

    def hold_out(self, examples: int, seed: int) -> "StreamSource":
        """Refuses: a dataset gives its images in one order only."""
        raise UserError(
            f"validation_examples={examples} can't be held out of a tf.data.Dataset: divide it by "
            "take and skip, and give a part as validation, or give arrays."
        )

    def _in_order(self, part: str, batch_size: int, shard: Shard) -> tf.data.Dataset:
        total, size = self.examples[part], shard.piece_size(batch_size)
        padding = shard.evaluation_pieces(batch_size, total) * size - shard.examples(total)
        elements = self.datasets[part].map(lambda image, label: (image, label, 1.0))
        nothing = tf.zeros(self.shape), tf.zeros((), tf.int32), 0.0
        padded = tf.data.Dataset.from_tensors(nothing).repeat(padding)
        elements = elements.shard(shard.count, shard.index).concatenate(padded)
        return elements.batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def of_datasets(datasets: Mapping[str, tf.data.Dataset], classes: int | None = None) -> ImageData:
    """Builds a set of datasets, each of which is read once to count it and check its labels.

    Args:
        datasets: "train", and if there are such "test" and "val" -> dataset of pairs of an image
            (h, w, c) and a label, single or in batches. Images are given to the network as they
            are, in float32. The run shuffles training images.
        classes: Number of classes; by default one more than the largest label.

    Returns:
        The set; its fingerprints are of shapes and numbers of images in each class.

    Raises:
        UserError: If a dataset does not tell its length or has none, or its elements are no such
            pairs, or a label is wrong.
    """
    single = {part: _single(dataset, part) for part, dataset in datasets.items()}
    shape = tuple(single["train"].element_spec[0].shape)
    for part, dataset in single.items():
        if part != "train":
            check_images(dataset.element_spec[0].shape, shape)
    labels = {part: _labels(dataset, part) for part, dataset in single.items()}
    classes = count_classes(labels.values()) if classes is None else classes
    integer("classes", classes, at_least=2)
    for found in labels.values():
        check_labels(found, classes)
    examples = {part: len(labels.get(part, ())) for part in ("train", "test", "val")}
    single = {
        part: dataset.map(lambda image, label: (image, tf.cast(label, tf.int32)))
        for part, dataset in single.items()
    }
    return ImageData(
        NAME,
        classes,
        shape,
        examples["train"],
        examples["test"],
        StreamSource(single, examples, shape),
        f"data set: a tf.data.Dataset of {examples['train']} training and {examples['test']} test "
        f"images, which are not normalised, of {told_classes(classes, labels['train'])}.",
        validation_examples=examples["val"],
        fingerprints={PARTS[part]: _digest(labels[part], shape, classes) for part in labels},
    )


def _single(dataset: tf.data.Dataset, part: str) -> tf.data.Dataset:
    """The dataset with single images, float32, and labels, int64."""
    cardinality = dataset.cardinality().numpy()
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise UserError(
            f"the {part} data set never ends: leave repeat() out, as the run goes through it once "
            "an epoch."
        )
    if cardinality == tf.data.UNKNOWN_CARDINALITY:
        raise UserError(
            f"the {part} data set does not tell its length: state it by "
            "dataset.apply(tf.data.experimental.assert_cardinality(n))."
        )
    if cardinality == 0:
        raise UserError(f"the {part} data set is empty, but at least 1 image is needed.")
    spec = dataset.element_spec
    specs = spec if isinstance(spec, tuple) and len(spec) == 2 else ()
    ranks = [s.shape.rank if isinstance(s, tf.TensorSpec) else None for s in specs]
    if ranks == [4, 2]:  # labels of shape (n, 1) count, one-hot rows do not
        _check_width(specs[1].shape[1], part)
        dataset = dataset.map(lambda image, label: (image, tf.squeeze(label, 1)))
    if ranks in ([4, 1], [4, 2]):
        dataset = dataset.unbatch()
    elif ranks == [3, 1]:
        _check_width(specs[1].shape[0], part)
        dataset = dataset.map(lambda image, label: (image, tf.squeeze(label, 0)))
    elif ranks != [3, 0]:
        raise UserError(
            f"the {part} data set gives {spec}, but pairs of an image (height, width, channels) "
            "and a label were expected, single or in batches: map it to such pairs."
        )
    image, label = dataset.element_spec
    if None in tuple(image.shape):
        raise UserError(
            f"the {part} data set gives images of the shape {tuple(image.shape)}, but one size was "
            "expected: resize them, or state it by tf.ensure_shape."
        )
    if not label.dtype.is_integer:
        raise UserError(
            f"the {part} data set gives labels of {label.dtype.name}, but whole numbers were "
            "expected: cast them."
        )
    if not (image.dtype.is_floating or image.dtype.is_integer):
        raise UserError(
            f"the {part} data set gives images of {image.dtype.name}, but numbers were expected."
        )
    return dataset.map(lambda image, label: (tf.cast(image, tf.float32), tf.cast(label, tf.int64)))


def _check_width(width: int | None, part: str) -> None:
    if width != 1:
        raise UserError(
            f"the {part} data set gives rows of {width} labels, but one label per image was "
            "expected: turn one-hot rows into labels by tf.argmax(label, -1)."
        )


def _labels(dataset: tf.data.Dataset, part: str) -> np.ndarray:
    """All labels, int64 (n,)."""
    only = dataset.map(lambda image, label: label)
    try:
        labels = np.fromiter(only.as_numpy_iterator(), np.int64)
        again = list(only.take(COMPARED).as_numpy_iterator())
    except tf.errors.OpError as problem:
        raise UserError(
            f"the {part} data set can't be read to its end ({reason(problem)}): mend it."
        ) from None
    if not np.array_equal(again, labels[:COMPARED]):
        warnings.warn(
            f"the {part} data set gives its images in another order each time, so that a run which "
            "is continued is not exactly one that was not stopped: leave shuffle() out, as the run "
            "shuffles.",
            UserWarning,
            stacklevel=2,
        )
    return labels


def _digest(labels: np.ndarray, shape: tuple, classes: int) -> str:
    """A fingerprint of what is the same in each pass, even if the order is not."""
    counts = np.bincount(labels, minlength=classes).tolist()
    return hashlib.sha256(repr((shape, counts)).encode()).hexdigest()[:16]
