"""Batches out of TFRecord files: classic ImageNet shards and those of TensorFlow Datasets."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.data import preprocessing as preprocessings
from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.image_data import ImageData
from tfcredit.data.shard import Shard
from tfcredit.data.tfrecord import record_datasets
from tfcredit.data.tfrecord.record_format import CLASSIC, RecordFormat
from tfcredit.errors import UserError
from tfcredit.seeding import derive

PARALLEL_FILES = 16
PARALLEL_IMAGES = max(16, os.cpu_count() or 1)
"""An upper bound, which changes no result."""


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """A data source over TFRecord files, for `ImageData`.

    Attributes:
        train_files: Training files.
        test_files: Test files.
        train_examples: Number of records in the training files.
        test_examples: Number of records in the test files.
        classes: Number of classes.
        record_format: Keys of image and label.
        preprocess: Functions from an encoded image to the network's input.
        size: Height and width of the images to give, in pixels.
        augment: True to crop and flip training images at random, False to prepare them as those of
            the evaluation.
        shuffle_buffer: Number of undecoded records (about 110 KB each in ImageNet) that are held to
            be shuffled.
        log: Log of corrupt records.
    """

    train_files: Sequence[str]
    test_files: Sequence[str]
    train_examples: int
    test_examples: int
    classes: int
    record_format: RecordFormat = CLASSIC
    preprocess: preprocessings.Preprocessing = preprocessings.KNOWN["resnet"]
    size: int = 224
    augment: bool = True
    shuffle_buffer: int = 2048
    log: CorruptLog = dataclasses.field(default_factory=CorruptLog)

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        The files are read in a random order, 16 at a time, and blocks of `shuffle_buffer` records
        are shuffled. Records before `start_step` are read but not decoded. Of several hosts, each
        reads files of its own, and begins them again if they hold too few records for the epoch.
        In place of a corrupt image stands the first good one of its piece.
        """
        size = shard.piece_size(batch_size)
        if shard.count > len(self.train_files):
            raise UserError(
                f"{shard.count} hosts are more than the {len(self.train_files)} training files, "
                "but each host needs one of its own: use fewer hosts or more shards."
            )
        # RandomState and not default_rng: NumPy promises that its stream never changes.
        order = np.random.RandomState(derive(seed, "data", "shards", epoch))
        order = order.permutation(len(self.train_files))[shard.index :: shard.count]
        records = record_datasets.records(self.train_files, order, self.log, PARALLEL_FILES)
        block_seed = derive(seed, "data", "records", epoch)
        records = record_datasets.shuffled(records, self.shuffle_buffer, block_seed)
        first = start_step * size * shard.pieces
        augment_seed = derive(seed, "data", "augment", epoch, *[shard.index] * (shard.index > 0))

        def decode(
            file: tf.Tensor, number: tf.Tensor, record: tf.Tensor, place: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            if not self.augment:
                return self._evaluation_image(file, number, record)
            encoded, label = self.record_format.parse(record)
            element_seed = tf.stack([tf.constant(augment_seed, tf.int64), place])
            return self.preprocess.train(encoded, element_seed, self.size), label

        placed = records.repeat().skip(first).enumerate(start=first)
        placed = placed.map(lambda place, record: (*record, place))
        batches = record_datasets.attempted(placed, decode, PARALLEL_IMAGES)
        batches = batches.batch(size, drop_remainder=True).map(self._repaired)
        pieces = (self.train_examples // batch_size - start_step) * shard.pieces
        # Keras asks for the number of steps, which tf.data can't know of files.
        batches = batches.take(pieces).apply(tf.data.experimental.assert_cardinality(pieces))
        return batches.prefetch(tf.data.AUTOTUNE)

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the test images in the files' order; see `ImageData.evaluation`."""
        order = np.arange(len(self.test_files))
        records = record_datasets.records(self.test_files, order, self.log, parallel=1)
        records = records.shard(shard.count, shard.index)
        images = record_datasets.attempted(records, self._evaluation_image, PARALLEL_IMAGES)
        nothing = tf.zeros([self.size, self.size, 3]), 0, True, np.int64(-1), np.int64(0)
        images = images.concatenate(tf.data.Dataset.from_tensors(nothing).repeat())
        batches = images.batch(shard.piece_size(batch_size), drop_remainder=True)
        pieces = shard.evaluation_pieces(batch_size, self.test_examples)
        return batches.take(pieces).map(self._weighted).prefetch(tf.data.AUTOTUNE)

    def _evaluation_image(
        self, file: tf.Tensor, number: tf.Tensor, record: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = self.record_format.parse(record)
        return self.preprocess.evaluation(encoded, self.size), label

    def _repaired(self, images: tf.Tensor, *told: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A training batch with its corrupt images replaced by the first good one.

        Args:
            images: The images.
            *told: Their labels, truths if they are good, files and numbers.

        Returns:
            Images and labels.
        """
        labels, good, _, _ = told

        def repair() -> tuple[tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([self._reported(told, training=True)]):
                places = tf.where(
                    good, tf.range(tf.size(good)), tf.argmax(good, output_type="int32")
                )
                return tf.gather(images, places), tf.gather(labels, places)

        return tf.cond(self._in_order(labels, good), lambda: (images, labels), repair)

    def _weighted(
        self, images: tf.Tensor, *told: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `_repaired`, a test batch with the weight 0 for corrupt images and for padding."""
        labels, good, files, _ = told
        tf.cond(
            self._in_order(labels, good),
            lambda: True,
            lambda: self._reported(told, training=False),
        )
        return images, labels, tf.cast(good & (files >= 0), tf.float32)

    def _reported(self, told: Sequence[tf.Tensor], training: bool) -> tf.Tensor:
        return tf.numpy_function(self._report, [*told, training], tf.bool)

    def _in_order(self, labels: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(good & (labels >= 0) & (labels < self.classes))

    def _report(
        self,
        labels: np.ndarray,
        good: np.ndarray,
        files: np.ndarray,
        numbers: np.ndarray,
        training: bool,
    ) -> np.bool_:
        """Names what is wrong with a batch; runs in Python, so only when something is."""
        paths = self.train_files if training else self.test_files
        for label, fine, file, number in zip(labels, good, files, numbers, strict=True):
            if not fine:
                self.log.report(paths[file], int(number), self._reason(paths[file], int(number)))
            elif not 0 <= label < self.classes:
                first = self.record_format.first_label
                raise UserError(
                    f"record {number} of {paths[file]} has label {label + first}, but "
                    f"{first} to {self.classes + first - 1} was expected of {self.classes} "
                    "classes: give the files of the set that was asked for."
                )
        if training and not good.any():
            raise UserError(
                f"all {len(good)} images of a piece of the batch are corrupt, such as record "
                f"{numbers[0]} of {paths[files[0]]}, but one must be good: mend the files."
            )
        return np.bool_(True)

    def _reason(self, path: str, number: int) -> str:
        """Why a record gave no image with a label."""
        record = tf.data.TFRecordDataset(path).skip(number).take(1)
        found = [self.record_format.problem(each) for each in record.as_numpy_iterator()]
        return found[0] if found and found[0] else "its image can't be decoded"


def from_files(
    name: str,
    classes: int,
    parts: Sequence[Sequence[str]],
    counts: Sequence[int],
    record_format: RecordFormat,
    log: CorruptLog,
    *,
    preprocessing: str,
    image_size: int | None,
    augment: bool,
    shuffle_buffer: int,
) -> ImageData:
    """Makes a set out of TFRecord files.

    Args:
        name: Name of the set, for messages.
        classes: Number of classes.
        parts: Training files and test files.
        counts: Number of records in the training files and in the test files.
        record_format: Keys of image and label.
        log: Log of corrupt records.
        preprocessing: "resnet" or "inception".
        image_size: Height and width of the images, in pixels; None for the size that goes with
            `preprocessing`.
        augment: True to crop and flip training images at random.
        shuffle_buffer: Number of undecoded records that are held to be shuffled.

    Returns:
        The set.

    Raises:
        UserError: If an option is out of range or unknown.
    """
    preprocess = preprocessings.get(preprocessing)
    image_size = preprocess.size if image_size is None else image_size
    for option, value in (("image_size", image_size), ("shuffle_buffer", shuffle_buffer)):
        if value < 1:
            raise UserError(f"{option} {value} is not positive: choose one of at least 1.")
    source = RecordSource(
        *parts,
        *counts,
        classes,
        record_format,
        preprocess,
        image_size,
        augment,
        shuffle_buffer,
        log,
    )
    return ImageData(name, classes, (image_size, image_size, 3), *counts, source, "", log.records)
