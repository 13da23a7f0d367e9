"""What sources of encoded images share: decoding in parallel, and what is done about bad ones."""

import abc
import functools
import operator
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.preprocessing import Preprocessing
from tfcredit.errors import UserError

AT_ONCE = 8
"""Images that one call of a function decodes: calls for each take longer."""
MANY = 1024
"""Images from which on that pays: such a function takes part of a second to start."""

Element = tuple[tf.Tensor, ...]


def attempted(
    elements: tf.data.Dataset, decode: Callable[..., Element], count: int
) -> tf.data.Dataset:
    """Decodes elements in parallel, in their order; zeros stand in for those that do not decode.

    Args:
        elements: Tuples that start with the file and the image's number in it.
        decode: Takes an element and returns an image of static shape and an int32 label.
        count: Number of elements that will be read, about.

    Returns:
        A dataset of blocks of (image, label, good, file, number), each of up to `AT_ONCE` images;
        the bool `good` is False where `decode` failed. `rebatch` makes batches of them.
    """
    image, _ = tf.data.Dataset.map(elements, decode).element_spec
    at_once = AT_ONCE if count >= MANY else 1

    @tf.function(autograph=False)
    def decoded(*element: tf.Tensor) -> Element:
        return (*decode(*element), True, *element[:2])

    def decoded_some(*some: tf.Tensor) -> Element:
        # Written out: a loop of TensorFlow's or a dataset takes a third of decoding's time. The
        # last images, if they are fewer, fail here.
        each = [
            decoded(*tf.nest.map_structure(operator.itemgetter(place), some))
            for place in range(at_once)
        ]
        return tuple(tf.stack(parts) for parts in zip(*each, strict=True))

    def attempt(*element: tf.Tensor) -> tf.data.Dataset:
        # The first of two tries decodes, the second does not; errors are left out and the first
        # that remains is taken: that is how tf.data can catch an error.
        nothing = tf.zeros(image.shape, image.dtype), 0, False, *element[:2]

        def tried(which: tf.Tensor) -> Element:
            return tf.cond(which == 0, lambda: decoded(*element), lambda: nothing)

        return tf.data.Dataset.from_tensor_slices([0, 1]).map(tried).ignore_errors().take(1)

    def attempt_some(*some: tf.Tensor) -> Element:
        # All at once, as hardly ever one fails; then, where one did, each by itself.
        count = tf.size(some[0], tf.int64)
        together = tf.data.Dataset.from_tensors(some).map(decoded_some)
        singly = tf.data.Dataset.from_tensor_slices(some).flat_map(attempt).batch(count)
        # Interleaving such datasets took 9 % more of the processor's time for an image. With op
        # determinism TensorFlow takes blocks one by one either way, as datasets count as stateful;
        # the images of a block are decoded in parallel.
        return together.concatenate(singly).ignore_errors().take(1).get_single_element()

    return elements.batch(at_once).map(
        attempt_some, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


class EncodedSource(abc.ABC):
    """The part of a data source that decodes images and reports those that can't be decoded.

    An element is (file, number, content): the file's place in a list of paths and the image's
    number in the file, int64 scalars, and what `_read` makes an image of.

    Attributes:
        classes: Number of classes.
        preprocess: Functions from an encoded image to the network's input.
        size: Height and width of the images to give, in pixels.
        augment: True to crop and flip training images at random, False to prepare them as those of
            the evaluation.
        log: Log of corrupt images.
    """

    classes: int
    preprocess: Preprocessing
    size: int
    augment: bool
    log: CorruptLog

    @abc.abstractmethod
    def _read(self, file: tf.Tensor, content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image and its int32 label."""

    @abc.abstractmethod
    def _reason(self, paths: Sequence[str], file: int, number: int) -> str:
        """Why there is no image with a label at a place."""

    def _record(self, number: int) -> int | None:
        """The number of an image as messages have it; None if a file is one image."""
        return number

    def _mislabelled(self, path: str, number: int, label: int) -> UserError:
        """The error of a label outside the classes."""
        return UserError(f"image {number} of {path} has label {label} of {self.classes} classes.")

    def _training_batches(
        self,
        elements: tf.data.Dataset,
        paths: Sequence[str],
        seed: int,
        size: int,
        pieces: int,
    ) -> tf.data.Dataset:
        """Pieces of training batches.

        In place of a corrupt image stands the first good one of its piece.

        Args:
            elements: Elements with a fourth part, the image's place in the epoch, which seeds its
                augmentation.
            paths: All files.
            seed: Seed of the augmentation.
            size: Images per piece.
            pieces: Number of pieces.

        Returns:
            A dataset of images (size, h, w, c) and labels (size,).
        """

        def decode(
            file: tf.Tensor, number: tf.Tensor, content: tf.Tensor, place: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            if not self.augment:
                return self._evaluation_image(file, number, content)
            encoded, label = self._read(file, content)
            element_seed = tf.stack([tf.constant(seed, tf.int64), place])
            return self.preprocess.train(encoded, element_seed, self.size), label

        batches = attempted(elements, decode, size * pieces).rebatch(size, drop_remainder=True)
        batches = batches.map(functools.partial(self._repaired, paths)).take(pieces)
        # Keras asks for the number of steps, which tf.data can't know of files.
        batches = batches.apply(tf.data.experimental.assert_cardinality(pieces))
        return batches.prefetch(tf.data.AUTOTUNE)

    def _evaluation_batches(
        self, elements: tf.data.Dataset, paths: Sequence[str], size: int, pieces: int
    ) -> tf.data.Dataset:
        """Pieces of evaluated images, zeros with the weight 0 behind the last.

        Args:
            elements: Elements.
            paths: All files.
            size: Images per piece.
            pieces: Number of pieces.

        Returns:
            A dataset of images (size, h, w, c), labels (size,) and weights (size,).
        """
        images = attempted(elements, self._evaluation_image, size * pieces)
        nothing = tf.zeros([self.size, self.size, 3]), 0, True, np.int64(-1), np.int64(0)
        images = images.concatenate(tf.data.Dataset.from_tensors(nothing).repeat().batch(1))
        batches = images.rebatch(size, drop_remainder=True).take(pieces)
        batches = batches.apply(tf.data.experimental.assert_cardinality(pieces))
        return batches.map(functools.partial(self._weighted, paths)).prefetch(tf.data.AUTOTUNE)

    def _evaluation_image(
        self, file: tf.Tensor, number: tf.Tensor, content: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = self._read(file, content)
        return self.preprocess.evaluation(encoded, self.size), label

    def _repaired(
        self, paths: Sequence[str], images: tf.Tensor, *told: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A training batch with its corrupt images replaced by the first good one.

        Args:
            paths: All files.
            images: The images.
            *told: Their labels, truths if they are good, files and numbers.

        Returns:
            Images and labels.
        """
        labels, good, _, _ = told

        def repair() -> tuple[tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([self._reported(paths, told, training=True)]):
                places = tf.where(
                    good, tf.range(tf.size(good)), tf.argmax(good, output_type="int32")
                )
                return tf.gather(images, places), tf.gather(labels, places)

        return tf.cond(self._in_order(labels, good), lambda: (images, labels), repair)

    def _weighted(
        self, paths: Sequence[str], images: tf.Tensor, *told: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `_repaired`, a test batch with the weight 0 for corrupt images and for padding."""
        labels, good, files, _ = told
        tf.cond(
            self._in_order(labels, good),
            lambda: True,
            lambda: self._reported(paths, told, training=False),
        )
        return images, labels, tf.cast(good & (files >= 0), tf.float32)

    def _reported(
        self, paths: Sequence[str], told: Sequence[tf.Tensor], training: bool
    ) -> tf.Tensor:
        report = functools.partial(self._report, paths, training)
        return tf.numpy_function(report, told, tf.bool)

    def _in_order(self, labels: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(good & (labels >= 0) & (labels < self.classes))

    def _report(
        self,
        paths: Sequence[str],
        training: bool,
        labels: np.ndarray,
        good: np.ndarray,
        files: np.ndarray,
        numbers: np.ndarray,
    ) -> np.bool_:
        """Names what is wrong with a batch; runs in Python, so only when something is."""
        for label, fine, file, number in zip(labels, good, files, numbers, strict=True):
            if not fine:
                reason = self._reason(paths, int(file), int(number))
                self.log.report(paths[file], self._record(int(number)), reason)
            elif not 0 <= label < self.classes:
                raise self._mislabelled(paths[file], int(number), int(label))
        if training and not good.any():
            raise UserError(
                f"all {len(good)} images of a piece of the batch are corrupt, such as number "
                f"{numbers[0]} of {paths[files[0]]}, but one must be good: mend the files."
            )
        return np.bool_(True)
