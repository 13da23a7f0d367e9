"""`ImageData`: a set of labelled images, and its batches for training and evaluation."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfcredit import checks
from tfcredit.data.arrays import ArraySource, as_images, as_labels
from tfcredit.data.corrupt_records import CorruptRecord
from tfcredit.data.shard import Shard
from tfcredit.errors import UserError

WHOLE = Shard()
"""The shard of a host that is alone: whole batches in one piece."""


def _pipeline(make: Callable[..., tf.data.Dataset], *arguments: Any) -> tf.data.Dataset:
    """The dataset that a function makes, traced and run in the way that suits ours.

    Functions that it maps over images need no AutoGraph: its translation of them took a fifth of a
    second or more. Nor is anything autotuned: what would be has as many parallel calls as there are
    CPUs. Deleting an iterator of a pipeline that is tuned (TensorFlow 2.21) may wait for the
    tuning's next turn, which is the later, the longer it has run, a minute at most. Of a run of six
    epochs of a minute each that was 116 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.autotune.initial_parallelism = os.cpu_count() or 1
    return tf.autograph.experimental.do_not_convert(make)(*arguments).with_options(options)


class Source(Protocol):
    """A source of batches. `ImageData` has checked the arguments."""

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """See `ImageData.train`."""
        ...

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """See `ImageData.evaluation`."""
        ...

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """See `ImageData.validation`."""
        ...

    def hold_out(self, examples: int, seed: int) -> "Source":
        """A source whose validation images are some of this one's training images."""
        ...


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Labelled images for training and evaluation.

    Attributes:
        name: Name of the set, for messages.
        classes: Number of classes.
        input_shape: Height, width and channels of the images that `train` and `evaluation` give.
        train_examples: Number of training images.
        test_examples: Number of test images.
        source: Source of the batches.
        chosen_because: A sentence that says which set this is and why it was taken.
        corrupt: Corrupt records that were left out so far, each with file, number and reason.
        validation_examples: Number of validation images; 0 if none are held out.
        class_names: Names of the classes in the order of their labels; none if they have none.
        fingerprints: Part ("training", "validation" or "test") -> a fingerprint of the names and
            classes of its images, of those that are held out among the training images; of arrays
            and datasets of the user's own one of their content; none for other sets.
    """

    name: str
    classes: int
    input_shape: tuple[int, int, int]
    train_examples: int
    test_examples: int
    source: Source = dataclasses.field(repr=False)
    chosen_because: str = ""
    corrupt: list[CorruptRecord] = dataclasses.field(default_factory=list)
    class_names: tuple[str, ...] = ()
    validation_examples: int = 0
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        x_train: np.ndarray,
        y_train: np.ndarray,
        x_test: np.ndarray,
        y_test: np.ndarray,
        classes: int,
        *,
        name: str = "arrays",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        augment: bool = False,
        corrupt: Sequence[CorruptRecord] = (),
    ) -> "ImageData":
        """Makes a set out of arrays in memory.

        Args:
            x_train: Training images (n, h, w, c): uint8 in 0 to 255, or floating point, which is
                not scaled.
            y_train: Labels in [0, `classes`) of shape (n,) or (n, 1).
            x_test: Test images (m, h, w, c).
            y_test: Labels of shape (m,) or (m, 1).
            classes: Number of classes.
            name: Name of the set, for messages.
            mean: Subtracted per channel, after uint8 was divided by 255; by default the training
                images' own.
            std: Divided by per channel; by default the training images' own.
            augment: True to flip and shift training images. False by default, because a mirrored
                digit or letter is another sign.
            corrupt: Records that were left out when the arrays were read.

        Returns:
            The set.

        Raises:
            UserError: If a shape, dtype or label is wrong.

        Example:
            >>> import numpy as np
            >>> images, labels = np.zeros((8, 4, 4, 1), "uint8"), np.arange(8) % 2
            >>> data = ImageData.from_arrays(images, labels, images, labels, classes=2)
            >>> data.steps_per_epoch(batch_size=3)
            2
        """
        x_train, x_test = as_images(x_train, "x_train"), as_images(x_test, "x_test")
        if len(x_train) == 0:
            raise UserError("x_train holds 0 images, but at least 1 is needed: give some.")
        y_train = as_labels(y_train, len(x_train), classes, "y_train")
        y_test = as_labels(y_test, len(x_test), classes, "y_test")
        source = ArraySource((x_train, y_train), (x_test, y_test), mean, std, augment)
        shape = tuple(x_train.shape[1:])
        sizes = len(x_train), len(x_test)
        return cls(name, classes, shape, *sizes, source, corrupt=list(corrupt))

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of whole batches in an epoch of training.

        Args:
            batch_size: Images per batch.

        Returns:
            At least 1; the images of a last, smaller batch are left out.

        Raises:
            UserError: If there is no training image, or the batch is larger than the set or no
                positive number.
        """
        if self.train_examples == 0:
            raise UserError(
                f"data set {self.name!r} holds 0 training images, but at least 1 is needed: "
                "check the data folder."
            )
        checks.positive(**{"batch size": batch_size})
        if batch_size > self.train_examples:
            raise UserError(
                f"batch size {batch_size} is larger than the {self.train_examples} training images "
                f"of {self.name!r}: choose a batch size of at most {self.train_examples}."
            )
        return self.train_examples // batch_size

    def train(
        self,
        batch_size: int,
        seed: int,
        epoch: int,
        start_step: int = 0,
        shard: Shard = WHOLE,
    ) -> tf.data.Dataset:
        """One epoch of training batches in a random order.

        Order and augmentation are a function of `seed`, `epoch` and the place in the epoch alone:
        an epoch that starts at `start_step` gives bit for bit what the whole one gives from there.

        Args:
            batch_size: Images per batch of all hosts together.
            seed: Seed of order and augmentation.
            epoch: Number of the epoch; each has an order of its own.
            start_step: Batches to leave out at the start, without decoding them.
            shard: Part of every batch to give, and number of pieces it is cut into; all of it in
                one piece by default.

        Returns:
            A dataset of `steps_per_epoch(batch_size) - start_step` times `shard.pieces` pieces,
            each of n = `shard.piece_size(batch_size)` normalised float32 images (n, h, w, c) and
            int32 labels (n,).

        Raises:
            UserError: If `steps_per_epoch` raises it, `start_step` is outside the epoch, the batch
                can't be cut into equal pieces, or there are fewer training files than hosts.
        """
        steps = self.steps_per_epoch(batch_size)
        if not 0 <= start_step <= steps:
            raise UserError(
                f"start step {start_step} is outside the epoch's {steps} steps: "
                f"choose one in [0, {steps}]."
            )
        return _pipeline(self.source.train, batch_size, seed, epoch, start_step, shard)

    def evaluation(self, batch_size: int, shard: Shard = WHOLE) -> tf.data.Dataset:
        """Every test image exactly once, in a fixed order and without augmentation.

        Host i of n takes images i, i + n, i + 2n and so on. Every host gives as many pieces, all
        of one shape: where its images end, zeros with the weight 0 fill up its last batch.

        Args:
            batch_size: Images per batch of all hosts together.
            shard: Part of every batch to give, and number of pieces it is cut into; all of it in
                one piece by default.

        Returns:
            A dataset of pieces of n = `shard.piece_size(batch_size)` normalised float32 images
            (n, h, w, c), int32 labels (n,) and float32 weights (n,): 1 for an image, 0 for padding.

        Raises:
            UserError: If there is no test image, the batch size is no positive number, or the
                batch can't be cut into equal pieces.
        """
        checks.positive(**{"batch size": batch_size})
        if self.test_examples == 0:
            raise UserError(
                f"data set {self.name!r} holds 0 test images, but at least 1 is needed to "
                "evaluate: check the data folder."
            )
        return _pipeline(self.source.evaluation, batch_size, shard)

    def validation(self, batch_size: int, shard: Shard = WHOLE) -> tf.data.Dataset:
        """Every validation image exactly once, as `evaluation` gives the test images.

        Args:
            batch_size: Images per batch of all hosts together.
            shard: Part of every batch to give, and number of pieces it is cut into; all of it in
                one piece by default.

        Returns:
            A dataset as that of `evaluation`.

        Raises:
            UserError: If there is no validation image, the batch size is no positive number, or
                the batch can't be cut into equal pieces.
        """
        checks.positive(**{"batch size": batch_size})
        if self.validation_examples == 0:
            raise UserError(
                f"data set {self.name!r} holds 0 validation images: hold some out with "
                "hold_out(examples)."
            )
        return _pipeline(self.source.validation, batch_size, shard)

    def hold_out(self, examples: int, seed: int = 0) -> "ImageData":
        """Holds training images out for validation, so that test images choose nothing.

        Which ones follows from the set, `examples` and `seed` alone.

        Args:
            examples: Number of images that are held out.
            seed: Seed of the draw.

        Returns:
            The set with so many validation images, and as many training images less.

        Raises:
            UserError: If the number is not positive, no training image would be left, or the set
                has validation images already.

        Example:
            >>> import numpy as np
            >>> images, labels = np.zeros((8, 4, 4, 1), "uint8"), np.arange(8) % 2
            >>> data = ImageData.from_arrays(images, labels, images, labels, classes=2)
            >>> data = data.hold_out(3)
            >>> data.train_examples, data.validation_examples, data.test_examples
            (5, 3, 8)
        """
        if self.validation_examples:
            raise UserError(
                f"data set {self.name!r} has {self.validation_examples} validation images "
                f"already, so {examples} more can't be held out: leave validation_examples out."
            )
        if not 1 <= examples < self.train_examples:
            raise UserError(
                f"validation_examples {examples} is not between 1 and "
                f"{self.train_examples - 1}, and {self.name!r} has {self.train_examples} training "
                "images, of which some must be left: hold out fewer."
            )
        return dataclasses.replace(
            self,
            train_examples=self.train_examples - examples,
            validation_examples=examples,
            source=self.source.hold_out(examples, seed),
        )
