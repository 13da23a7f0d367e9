"""Batches out of TFRecord files: classic ImageNet shards and those of TensorFlow Datasets."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit import checks
from tfcredit.data import preprocessing as preprocessings
from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.encoded import EncodedSource
from tfcredit.data.image_data import ImageData
from tfcredit.data.shard import Shard
from tfcredit.data.tfrecord import record_datasets, record_files
from tfcredit.data.tfrecord.record_format import CLASSIC, RecordFormat
from tfcredit.data.validation import drawn_of_files
from tfcredit.errors import UserError
from tfcredit.seeding import derive

PARALLEL_FILES = 16
"""Files that are read in turns."""


@dataclasses.dataclass(frozen=True)
class RecordSource(EncodedSource):
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
        held_out: bool of shape (training files, n): True for the records among the first n of a
            file that are for validation; None if none are.
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
    held_out: np.ndarray | None = None

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        The files are read in a random order, 16 at a time, and blocks of `shuffle_buffer` records
        are shuffled. A set that fits into one block has the order of `IndexedSource`. Records
        before `start_step` are read but not decoded. Of several hosts, each reads files of its own,
        and begins them again if they hold too few records for the epoch.
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
        if self.held_out is not None:
            records = records.filter(lambda *record: ~self._is_held_out(*record))
        records = self._shuffled(records, seed, epoch, shard)
        first = start_step * size * shard.pieces
        augment_seed = derive(seed, "data", "augment", epoch, *[shard.index] * (shard.index > 0))
        placed = records.repeat().skip(first).enumerate(start=first)
        placed = placed.map(lambda place, record: (*record, place))
        pieces = (self.train_examples // batch_size - start_step) * shard.pieces
        return self._training_batches(placed, self.train_files, augment_seed, size, pieces)

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the test images in the files' order; see `ImageData.evaluation`."""
        order = np.arange(len(self.test_files))
        records = record_datasets.records(self.test_files, order, self.log, parallel=1)
        return self._in_order_of(records, self.test_files, self.test_examples, batch_size, shard)

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the validation images in the files' order; see `ImageData.validation`."""
        width = self.held_out.shape[1]
        most = (self.held_out * np.arange(1, width + 1)).max(axis=1)
        order = np.flatnonzero(most)
        records = record_datasets.records(self.train_files, order, self.log, PARALLEL_FILES, most)
        records, examples = records.filter(self._is_held_out), int(self.held_out.sum())
        return self._in_order_of(records, self.train_files, examples, batch_size, shard)

    def hold_out(self, examples: int, seed: int) -> "RecordSource":
        """The source with some training images as validation images; see `ImageData.hold_out`."""
        files = self.train_files
        counts = [record_files.whole_records(path) for path in files]
        if min(counts) < 0:  # in a bucket, where they are not counted: taken as split evenly
            counts = [self.train_examples // len(files)] * len(files)
        if examples >= sum(counts):
            raise UserError(
                f"validation_examples {examples} is not below the {sum(counts)} records that can "
                "be read of the training files: hold out fewer."
            )
        held, left = drawn_of_files(counts, examples, seed), self.train_examples - examples
        return dataclasses.replace(self, train_examples=left, held_out=held)

    def _shuffled(
        self, records: tf.data.Dataset, seed: int, epoch: int, shard: Shard
    ) -> tf.data.Dataset:
        """The records of an epoch in another order."""
        if self.train_examples <= self.shuffle_buffer and shard.count == 1:
            counts = [record_files.whole_records(path) for path in self.train_files]
            if sum(counts) == self.train_examples:  # none is held out or lost, or in a bucket
                order = np.random.RandomState(derive(seed, "data", "order", epoch))
                order = order.permutation(self.train_examples)
                return record_datasets.ordered(records, counts, order)
        block_seed = derive(seed, "data", "records", epoch)
        return record_datasets.shuffled(records, self.shuffle_buffer, block_seed)

    def _is_held_out(self, file: tf.Tensor, number: tf.Tensor, record: tf.Tensor) -> tf.Tensor:
        width = self.held_out.shape[1]
        place = tf.stack([file, tf.minimum(number, width - 1)])
        return (number < width) & tf.gather_nd(tf.constant(self.held_out), place)

    def _in_order_of(
        self,
        records: tf.data.Dataset,
        paths: Sequence[str],
        examples: int,
        batch_size: int,
        shard: Shard,
    ) -> tf.data.Dataset:
        records = records.shard(shard.count, shard.index)
        pieces = shard.evaluation_pieces(batch_size, examples)
        return self._evaluation_batches(records, paths, shard.piece_size(batch_size), pieces)

    def _read(self, file: tf.Tensor, content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.record_format.parse(content)

    def _mislabelled(self, path: str, number: int, label: int) -> UserError:
        first = self.record_format.first_label
        return UserError(
            f"record {number} of {path} has label {label + first}, but {first} to "
            f"{self.classes + first - 1} was expected of {self.classes} classes: give the files "
            "of the set that was asked for."
        )

    def _reason(self, paths: Sequence[str], file: int, number: int) -> str:
        """Why a record gave no image with a label."""
        record = tf.data.TFRecordDataset(paths[file]).skip(number).take(1)
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
        preprocessing: "resnet", "inception" or "raw".
        image_size: Height and width of the images, in pixels; None for the size that goes with
            `preprocessing`.
        augment: True to crop and flip training images at random.
        shuffle_buffer: Number of undecoded records that are held to be shuffled.

    Returns:
        The set.

    Raises:
        UserError: If an option is out of range or unknown.
    """
    preprocess, image_size = preprocessings.sized(preprocessing, image_size)
    checks.positive(shuffle_buffer=shuffle_buffer)
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
