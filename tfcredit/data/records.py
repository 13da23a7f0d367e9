"""Batches out of TFRecord shards in the classic ImageNet format."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfcredit.data import preprocessing
from tfcredit.data.share import Share
from tfcredit.errors import UserError
from tfcredit.seeding import derive

FRAME_BYTES = 16
"""What a record takes beside its content: 8 bytes of length and two checksums of 4."""


def count_records(path: Path) -> int:
    """Counts the records of a TFRecord file by its headers, without reading the contents.

    Args:
        path: The file.

    Returns:
        The number of records.

    Raises:
        UserError: If the file ends in the middle of a record.
    """
    size, place, count = path.stat().st_size, 0, 0
    with path.open("rb", buffering=0) as file:
        while place < size:
            file.seek(place)
            header = file.read(8)
            length = struct.unpack("<Q", header)[0] if len(header) == 8 else size
            place += length + FRAME_BYTES
            count += 1
    if place != size:
        raise UserError(
            f"{path} ends in the middle of record {count}, but whole TFRecords were expected: "
            "copy or make the file again."
        )
    return count


def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes a classic ImageNet record apart.

    Args:
        record: A serialised `tf.train.Example`, a scalar string.

    Returns:
        The encoded image, a scalar string, and the label, int32 and counted from 0 (the record
        counts from 1).
    """
    features = tf.io.parse_single_example(
        record,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        },
    )
    return features["image/encoded"], tf.cast(features["image/class/label"] - 1, tf.int32)


class RecordSource:
    """A data source over TFRecord shards, for `ImageData`."""

    def __init__(
        self,
        train_files: Sequence[Path],
        test_files: Sequence[Path],
        train_examples: int,
        test_examples: int,
        size: int = 224,
        augment: bool = True,
        shuffle_buffer: int = 2048,
    ) -> None:
        """Opens no file.

        Args:
            train_files: Training shards.
            test_files: Test shards.
            train_examples: Number of records in the training shards.
            test_examples: Number of records in the test shards.
            size: Height and width of the images to give, in pixels.
            augment: Whether training images are cropped and flipped at random, or else prepared as
                those of the evaluation are.
            shuffle_buffer: How many undecoded records (about 110 KB each in ImageNet) are held to
                be shuffled.
        """
        self._train_files = np.array([str(path) for path in train_files])
        self._test_files = [str(path) for path in test_files]
        self._train_examples = train_examples
        self._test_examples = test_examples
        self._size = size
        self._augment = augment
        self._shuffle_buffer = shuffle_buffer

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, share: Share
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        The shards are read in a random order, 16 at a time, and blocks of `shuffle_buffer` records
        are shuffled. Records before `start_step` are read but not decoded. Of several hosts, each
        reads files of its own, and begins them again if they hold too few records for the epoch.
        """
        size = share.piece_size(batch_size)
        if share.count > len(self._train_files):
            raise UserError(
                f"{share.count} hosts are more than the {len(self._train_files)} training files, "
                "but each host needs one of its own: use fewer hosts or more shards."
            )
        # RandomState and not default_rng: NumPy promises that its stream never changes.
        order = np.random.RandomState(derive(seed, "data", "shards", epoch))
        files = order.permutation(self._train_files)[share.index :: share.count]
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            tf.data.TFRecordDataset, cycle_length=16, num_parallel_calls=tf.data.AUTOTUNE
        )
        records = _shuffled(records, self._shuffle_buffer, derive(seed, "data", "records", epoch))
        first = start_step * size * share.pieces
        augment_seed = derive(
            seed, "data", "augment", epoch, *([share.index] if share.index else [])
        )

        def example(place: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, label = parse(record)
            if not self._augment:
                return preprocessing.evaluation_image(encoded, self._size), label
            element_seed = tf.stack([tf.constant(augment_seed, tf.int64), place])
            return preprocessing.train_image(encoded, element_seed, self._size), label

        batches = records.repeat().skip(first).enumerate(start=first)
        batches = batches.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        batches = batches.batch(size, drop_remainder=True)
        pieces = (self._train_examples // batch_size - start_step) * share.pieces
        batches = batches.take(pieces)
        # Keras asks for the number of steps, which tf.data can't know of files.
        batches = batches.apply(tf.data.experimental.assert_cardinality(pieces))
        return batches.prefetch(tf.data.AUTOTUNE)

    def evaluation(self, batch_size: int, share: Share) -> tf.data.Dataset:
        """Batches of the test images in the shards' order; see `ImageData.evaluation`."""

        def example(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, float]:
            encoded, label = parse(record)
            return preprocessing.evaluation_image(encoded, self._size), label, 1.0

        records = tf.data.TFRecordDataset(self._test_files).shard(share.count, share.index)
        examples = records.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        image = tf.zeros([self._size, self._size, 3])
        padding = tf.data.Dataset.from_tensors((image, tf.constant(0), 0.0)).repeat()
        batches = examples.concatenate(padding)
        batches = batches.batch(share.piece_size(batch_size), drop_remainder=True)
        pieces = share.evaluation_pieces(batch_size, self._test_examples)
        return batches.take(pieces).prefetch(tf.data.AUTOTUNE)


def _shuffled(records: tf.data.Dataset, buffer: int, seed: int) -> tf.data.Dataset:
    """Shuffles within blocks of `buffer` records, as a function of `seed` alone.

    `Dataset.shuffle` would mix the global seed of TensorFlow into its own, so its order would
    change with a call of `keras.utils.set_random_seed`.
    """

    def shuffle_block(block: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        keys = tf.random.stateless_uniform(
            tf.shape(members), tf.stack([tf.constant(seed, tf.int64), block])
        )
        return tf.gather(members, tf.argsort(keys, stable=True))

    return records.batch(buffer).enumerate().map(shuffle_block).unbatch()
