"""Random images in the shape of ImageNet, to measure speed without input."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfcredit import checks
from tfcredit.data import preprocessing
from tfcredit.data.image_data import ImageData
from tfcredit.data.shard import Shard
from tfcredit.ilsvrc2012 import IMAGES

EXAMPLES = IMAGES["train"], IMAGES["validation"]
"""Training and test images: as many as ImageNet has, so that an epoch is as long."""
DISTINCT = 64
"""Images that differ: a larger piece repeats them."""


@dataclasses.dataclass(frozen=True)
class SyntheticSource:
    """A data source that gives one fixed batch again and again, for `ImageData`.

    Attributes:
        classes: Number of classes.
        size: Height and width of the images, in pixels.
        examples: Training and test images.
        validation_examples: Validation images.
    """

    classes: int
    size: int
    examples: tuple[int, int]
    validation_examples: int = 0

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """The fixed batch, normalised once; see `ImageData.train`."""
        pieces = (self.examples[0] // batch_size - start_step) * shard.pieces
        batch = tf.data.Dataset.from_tensors(self._batch(shard.piece_size(batch_size)))
        return batch.repeat(pieces)

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """The fixed batch, its last ones with the weight 0; see `ImageData.evaluation`."""
        return self._weighted(self.examples[1], batch_size, shard)

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """As `evaluation`; see `ImageData.validation`."""
        return self._weighted(self.validation_examples, batch_size, shard)

    def hold_out(self, examples: int, seed: int) -> "SyntheticSource":
        """The source with so many training images less; see `ImageData.hold_out`."""
        left = self.examples[0] - examples, self.examples[1]
        return dataclasses.replace(self, examples=left, validation_examples=examples)

    def _weighted(self, examples: int, batch_size: int, shard: Shard) -> tf.data.Dataset:
        size = shard.piece_size(batch_size)
        pieces = shard.evaluation_pieces(batch_size, examples)
        weights = np.zeros(pieces * size, np.float32)
        weights[: shard.examples(examples)] = 1
        images, labels = self._batch(size)

        def element(weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            shown = tf.cast(weight, labels.dtype)
            return images * weight[:, None, None, None], labels * shown, weight

        return tf.data.Dataset.from_tensor_slices(weights.reshape(pieces, size)).map(element)

    def _batch(self, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        random = np.random.RandomState(0)
        shape = (DISTINCT, self.size, self.size, 3)
        pixels = random.randint(0, 256, shape, np.uint8)
        labels = random.randint(0, self.classes, DISTINCT).astype(np.int32)
        places = np.arange(size) % DISTINCT
        with tf.device("CPU"):
            return preprocessing.normalise(pixels[places]), tf.constant(labels[places])


def build(image_size: int = 224, classes: int = 1000) -> ImageData:
    """Builds the set.

    Args:
        image_size: Height and width of the images, in pixels.
        classes: Number of classes.

    Returns:
        As many random colour images as ImageNet has, of which `DISTINCT` are different.

    Raises:
        UserError: If an option is not positive.
    """
    checks.positive(image_size=image_size, classes=classes)
    source = SyntheticSource(classes, image_size, EXAMPLES)
    return ImageData("synthetic", classes, (image_size, image_size, 3), *EXAMPLES, source)
