"""Batches of images that an index lists: one way for every layout."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcredit.data import preprocessing as preprocessings
from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.encoded import EncodedSource
from tfcredit.data.layouts.images import Images
from tfcredit.data.shard import Shard
from tfcredit.data.validation import drawn, drawn_of_groups
from tfcredit.seeding import derive


@dataclasses.dataclass(frozen=True)
class IndexedSource(EncodedSource):
    """A data source over images that an index lists, for `ImageData`.

    Attributes:
        train_images: Training images.
        test_images: Test images.
        classes: Number of classes.
        preprocess: Functions from an encoded image to the network's input.
        size: Height and width of the images to give, in pixels.
        augment: True to crop and flip training images at random.
        log: Log of images that can't be decoded.
        validation_images: Validation images; None for none.
        shuffle_buffer: Number of encoded images that are held to be shuffled, where images can't
            be read one by one.
    """

    train_images: Images
    test_images: Images
    classes: int
    preprocess: preprocessings.Preprocessing
    size: int
    augment: bool
    log: CorruptLog
    validation_images: Images | None = None
    shuffle_buffer: int = 2048

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        A batch holds the same images, augmented alike, on any number of hosts.
        """
        images, size = self.train_images, shard.piece_size(batch_size)
        steps = len(images) // batch_size
        # RandomState and not default_rng: NumPy promises that its stream never changes.
        random = np.random.RandomState(derive(seed, "data", "order", epoch))
        order = images.order(random, self.shuffle_buffer)
        places = np.arange(steps * batch_size)
        places = places.reshape(steps, shard.count, shard.pieces * size)[start_step:, shard.index]
        places = places.reshape(-1)
        elements = tf.data.Dataset.zip(
            self._elements(images, order[places], shard),
            tf.data.Dataset.from_tensor_slices(places.astype(np.int64)),
        ).map(lambda element, place: (*element, place))
        return self._training_batches(
            elements,
            Places(images),
            derive(seed, "data", "augment", epoch),
            size,
            (steps - start_step) * shard.pieces,
        )

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the test images in a fixed order; see `ImageData.evaluation`."""
        return self._in_order_of(self.test_images, batch_size, shard)

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the validation images in a fixed order; see `ImageData.validation`."""
        return self._in_order_of(self.validation_images, batch_size, shard)

    def hold_out(self, examples: int, seed: int) -> "IndexedSource":
        """The source with some training images as validation images; see `ImageData.hold_out`."""
        images = self.train_images
        if images.is_grouped and len(images) > self.shuffle_buffer:
            held = drawn_of_groups(images.groups(), examples, seed)
        else:
            held = drawn(len(images), examples, seed)
        kept, held = (images.take(np.flatnonzero(one)) for one in (~held, held))
        return dataclasses.replace(self, train_images=kept, validation_images=held)

    def _in_order_of(self, images: Images, batch_size: int, shard: Shard) -> tf.data.Dataset:
        # Drawn, so that a batch has images of many classes, as those that a run measures on.
        random = np.random.RandomState(derive(0, "data", "evaluation"))
        order = images.order(random, self.shuffle_buffer)[shard.index :: shard.count]
        elements = self._elements(images, order, shard)
        pieces = shard.evaluation_pieces(batch_size, len(images))
        return self._evaluation_batches(
            elements, Places(images), shard.piece_size(batch_size), pieces
        )

    def _elements(self, images: Images, order: np.ndarray, shard: Shard) -> tf.data.Dataset:
        """Elements of `EncodedSource`, whose content is one of the reader's, and a label."""

        def contents(places: np.ndarray) -> np.ndarray:
            return np.array(images.contents(places), object)

        def read(places: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found = tf.numpy_function(contents, [places], tf.string, stateful=False)
            found.set_shape(places.shape)
            return places, tf.zeros_like(places), (found, tf.gather(labels, places))

        with tf.device("CPU"):
            labels = tf.constant(images.entries["label"], tf.int32)
        places = tf.data.Dataset.from_tensor_slices(order.astype(np.int64))
        if images.is_grouped:  # a block at a time, and the next one while it is used
            chunk = max(1, self.shuffle_buffer // shard.count)
            found = places.batch(chunk).map(read).prefetch(1)
        else:
            found = places.batch(images.reader.chunk)
            found = found.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return found.unbatch()

    def _read(self, file: tf.Tensor, content: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        encoded, label = content
        return self.train_images.reader.opened(encoded), label

    def _reason(self, paths: "Places", file: int, number: int) -> str:
        return paths.images.reason(file)

    def _record(self, number: int) -> int | None:
        return None  # the place names the image


class Places(Sequence[str]):
    """The places of images as text, made of the few that are asked for.

    Attributes:
        images: The images.
    """

    def __init__(self, images: Images):
        """Makes none yet.

        Args:
            images: The images.
        """
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> str:
        return self.images.where(number)
