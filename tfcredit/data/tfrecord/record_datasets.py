"""Datasets of records, each with its file and number; damaged ones are counted."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.tfrecord import record_files

AT_ONCE = 16
"""Records of a file that are counted together: a call of a function for each takes longer."""

Element = tuple[tf.Tensor, ...]


def records(
    paths: Sequence[str],
    order: np.ndarray,
    log: CorruptLog,
    parallel: int,
    most: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Reads the records of some files, in an order that depends on the arguments alone.

    Of a file that is cut or damaged in its middle, it gives the records before the damage and
    reports the others.

    Args:
        paths: All files of a part.
        order: int64: which of them to read, by their place in `paths`.
        log: Log of damaged records.
        parallel: Number of files that are read in turns.
        most: int64: number of records to read of each of `paths` at most; all by default.

    Returns:
        A dataset of (file, number, record): the file's place in `paths` and the record's place in
        the file, int64 scalars, and the record's content, a scalar string.
    """
    names = tf.constant(list(paths))

    def opened(file: np.int64) -> np.int64:
        return np.int64(record_files.size(paths[file]))

    def believed(file: np.int64) -> np.int64:
        return np.int64(record_files.whole_records(paths[file]))

    def ended(file: np.int64, number: np.int64, place: np.int64) -> np.int64:
        lost, _ = record_files.walk(paths[file], int(place))
        for index in range(number, number + lost):
            log.report(paths[file], int(index), f"the file is cut or damaged at byte {place}")
        return np.int64(0)

    def read(file: tf.Tensor) -> tf.data.Dataset:
        # A file that can't be opened must be an error here, because `ignore_errors` would ask for
        # it again without end; after damage it goes on to the end of the file.
        size = tf.numpy_function(opened, [file], tf.int64)
        size.set_shape([])
        count = tf.numpy_function(believed, [file], tf.int64)
        count.set_shape([])
        limit = tf.constant(tf.int64.max)
        if most is not None:
            limit = tf.gather(tf.constant(most, tf.int64), file)
        count = tf.where(count < 0, limit, tf.minimum(count, limit))
        whole = tf.data.TFRecordDataset(tf.gather(names, file)).take(count).ignore_errors()
        end = tf.data.Dataset.from_tensors(([""], True))
        marked = whole.batch(AT_ONCE).map(lambda some: (some, False)).concatenate(end)

        def step(state: Element, element: Element) -> tuple[Element, Element]:
            (number, place), (some, is_end) = state, element
            tf.cond(
                is_end & (place != size) & (number < limit),
                lambda: tf.numpy_function(ended, [file, number, place], tf.int64),
                lambda: tf.constant(0, tf.int64),
            )
            many = tf.size(some, tf.int64)
            sizes = tf.cast(tf.strings.length(some), tf.int64) + record_files.FRAME_BYTES
            found = tf.fill([many], file), number + tf.range(many), some, is_end
            return (number + many, place + tf.reduce_sum(sizes)), found

        start = tf.constant(0, tf.int64), tf.constant(0, tf.int64)
        marked = marked.scan(start, step).filter(lambda *element: tf.logical_not(element[3]))
        return marked.map(lambda *element: element[:3]).unbatch()

    chosen = tf.data.Dataset.from_tensor_slices(np.asarray(order, np.int64))
    return chosen.interleave(read, cycle_length=parallel, num_parallel_calls=tf.data.AUTOTUNE)


def shuffled(elements: tf.data.Dataset, buffer: int, seed: int) -> tf.data.Dataset:
    """Shuffles within blocks of `buffer` elements, as a function of `seed` alone.

    `Dataset.shuffle` would mix the global seed of TensorFlow into its own, so its order would
    change with a call of `keras.utils.set_random_seed`.

    Args:
        elements: Tuples of tensors.
        buffer: Number of elements per block.
        seed: Seed of the order.

    Returns:
        The same elements in another order.
    """

    def keys(block: tf.Tensor, members: Element) -> tf.Tensor:
        seeds = tf.stack([tf.constant(seed, tf.int64), block])
        return tf.random.stateless_uniform(tf.shape(members[0])[:1], seeds)

    return _sorted(elements, buffer, keys)


def ordered(elements: tf.data.Dataset, counts: Sequence[int], order: np.ndarray) -> tf.data.Dataset:
    """Brings all records of some files into an order.

    Args:
        elements: What `records` gives.
        counts: Number of records in each file.
        order: The records' numbers, counted through all files, in the order to give them.

    Returns:
        The same elements in that order.
    """
    starts = tf.constant(np.cumsum([0, *counts]), tf.int64)
    ranks = tf.constant(np.argsort(order), tf.int64)

    def keys(_: tf.Tensor, members: Element) -> tf.Tensor:
        return tf.gather(ranks, tf.gather(starts, members[0]) + members[1])

    return _sorted(elements, len(order), keys)


def _sorted(
    elements: tf.data.Dataset, block: int, keys: Callable[[tf.Tensor, Element], tf.Tensor]
) -> tf.data.Dataset:
    """Sorts each block of elements by keys."""

    def sort(number: tf.Tensor, members: Element) -> Element:
        order = tf.argsort(keys(number, members), stable=True)
        return tuple(tf.gather(member, order) for member in members)

    return elements.batch(block).enumerate().map(sort).unbatch()
