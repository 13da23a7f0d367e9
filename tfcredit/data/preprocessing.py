"""The "resnet" and "inception" preprocessing, as the reference networks were trained with them.

Colours stay uint8 until the resize. Only the part of a JPEG that is needed is
decoded. Of ImageNet's files named `.JPEG`, one is a PNG and some twenty are CMYK.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfcredit import checks
from tfcredit.errors import UserError

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, in 0 to 1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation likewise."""
FACTOR = (1 / (255 * np.array(STD))).astype(np.float32)
SHIFT = (-np.array(MEAN) / STD).astype(np.float32)
"""What normalising multiplies colours of 0 to 255 with, and adds."""
EVALUATION_RATIO = 256 / 224
"""Short side of an evaluated image to the side of its central crop ("resnet")."""
CENTRAL_FRACTION = 0.875
"""Part of an evaluated image's height and width that is kept ("inception")."""
MAX_BRIGHTNESS = 32 / 255
"""Largest change of brightness ("inception"), of colours in 0 to 1."""
SATURATION = (0.5, 1.5)
"""Factors of the saturation ("inception")."""
WIDENED = 3 * 2**20
"""Most colours of an image that is cast to float32 before it is resized: 12 MB of them."""


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Scales colours of 0 to 255 to (x / 255 - `MEAN`) / `STD`.

    Args:
        images: Shape (..., 3), any real dtype.

    Returns:
        float32 of the same shape.
    """
    images = tf.cast(images, tf.float32)
    width = images.shape[-2] if images.shape.rank and images.shape.rank > 1 else 1
    # Whole rows at a time: on CPUs, TensorFlow broadcasts along three channels at a fifth of that
    # speed, which costs more than half of what decoding does.
    rows = tf.reshape(images, [-1, 3 * (width or 1)])
    factor, shift = (np.tile(each, width or 1) for each in (FACTOR, SHIFT))
    shape = images.shape if images.shape.is_fully_defined() else tf.shape(images)
    return tf.reshape(rows * factor + shift, shape)


def _decoded(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image in colours, of an animation the first frame; its opacity is left out.

    Args:
        encoded: JPEG, PNG, GIF or BMP; a scalar string.

    Returns:
        uint8 of shape (height, width, 3).
    """
    # With channels=3 TensorFlow refuses grey bitmaps and those with opacity.
    image = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    coloured = tf.cast(tf.shape(image)[2] >= 3, tf.int32)
    return tf.gather(image, tf.range(3) * coloured, axis=2)


def _part(
    encoded: tf.Tensor, choose: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a part of an image; of a JPEG no more than is needed.

    Args:
        encoded: JPEG (grey, colour or CMYK), PNG, GIF (the first frame) or BMP; a scalar string.
        choose: Takes the image's height and width, int32 of shape (2,), and returns the part's top,
            left, height and width, int32 of shape (4,), all in pixels.

    Returns:
        The part, uint8 of shape (height, width, 3), and the image's height and width.
    """

    def jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        sides = tf.io.extract_jpeg_shape(encoded)[:2]
        # As other decoders do it; TensorFlow's default is off by up to 4 of 255 and no faster.
        part = tf.io.decode_and_crop_jpeg(
            encoded, choose(sides), channels=3, dct_method="INTEGER_ACCURATE"
        )
        return part, sides

    def other() -> tuple[tf.Tensor, tf.Tensor]:
        image = _decoded(encoded)
        sides = tf.shape(image)[:2]
        top, left, height, width = tf.unstack(choose(sides))
        return image[top : top + height, left : left + width], sides

    return tf.cond(tf.io.is_jpeg(encoded), jpeg, other)


def _resized(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes an image, uint8, to float32 of shape (size, size, 3); bilinear."""
    # The same bits either way. TensorFlow's kernel loads the colours of a pixel of uint8 one by
    # one, of float32 all at once; a very large image would take too much memory so.
    image = tf.cond(
        tf.size(image) <= WIDENED,
        lambda: tf.image.resize(tf.cast(image, tf.float32), [size, size]),
        lambda: tf.image.resize(image, [size, size]),
    )
    return tf.ensure_shape(image, [size, size, 3])


def random_window(sides: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws a part of an image, of 8 to 100 % of its area and an aspect ratio of 3/4 to 4/3.

    Args:
        sides: The image's height and width in pixels, int32 of shape (2,).
        seed: Shape (2,), int.

    Returns:
        int32 of shape (4,): top, left, height and width in pixels.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([sides, [3]], axis=0),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        # The box is the whole image, so any minimum above the area's own would raise that one.
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
    )
    return tf.concat([begin[:2], extent[:2]], axis=0)


def _random_part(encoded: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """A random part, resized and mirrored half of the time: float32, 0 to 255."""
    seeds = tf.random.split(seed, 2)
    image, _ = _part(encoded, lambda sides: random_window(sides, seeds[0]))
    image = _resized(image, size)
    return tf.image.stateless_random_flip_left_right(image, seeds[1])


def train_image(encoded: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """Takes a random part of an image, resizes it (bilinear) and mirrors it half of the time.

    The part has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3; after 100 tries without
    such a part it is the whole image.

    Args:
        encoded: The image file, a scalar string.
        seed: Shape (2,), int: seed of all that is random.
        size: Height and width of the result, in pixels.

    Returns:
        float32 of shape (size, size, 3), normalised.
    """
    return normalise(_random_part(encoded, seed, size))


def evaluation_image(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Takes the centre of an image after a bilinear resize of its short side to 256/224 `size`.

    The other side is rounded to whole pixels. Only the centre is decoded and computed, so a very
    long image takes no more than any other.

    Args:
        encoded: The image file, a scalar string.
        size: Height and width of the result, in pixels.

    Returns:
        float32 of shape (size, size, 3), normalised.
    """
    return normalise(_central_part(encoded, size))


def _central_part(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """The centre of the resized image: float32, 0 to 255."""

    def places(sides: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the rows and columns of the result lie in the file, (2, size); the first pixels."""
        sides = tf.cast(sides, tf.float32)
        resized = tf.round(sides * (round(size * EVALUATION_RATIO) / tf.reduce_min(sides)))
        offset = tf.floor((resized - size) / 2)  # of the result in the resized image
        found = offset[:, None] + tf.range(size, dtype=tf.float32) + 0.5
        found = found * (sides / resized)[:, None] - 0.5
        return found, tf.maximum(tf.floor(found[:, 0]), 0.0)

    def window(sides: tf.Tensor) -> tf.Tensor:
        found, first = places(sides)
        last = tf.minimum(tf.floor(found[:, -1]) + 1, tf.cast(sides, tf.float32) - 1)
        return tf.cast(tf.concat([first, last - first + 1], axis=0), tf.int32)

    image, sides = _part(encoded, window)
    found, first = places(sides)
    for axis in (0, 1):
        image = _interpolate(image, axis, found[axis] - first[axis])
    return tf.ensure_shape(image, [size, size, 3])


def _interpolate(image: tf.Tensor, axis: int, places: tf.Tensor) -> tf.Tensor:
    """Rows or columns of an image at fractional places, float32; the edges go on for ever."""
    lower = tf.floor(places)
    part = tf.expand_dims(tf.expand_dims(places - lower, 1 - axis), 2)
    left, right = (
        tf.gather(image, tf.clip_by_value(index, 0, tf.shape(image)[axis] - 1), axis=axis)
        for index in (tf.cast(lower, tf.int32), tf.cast(lower, tf.int32) + 1)
    )
    left, right = tf.cast(left, tf.float32), tf.cast(right, tf.float32)
    return left + (right - left) * part


def raw_train_image(encoded: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """Does as `train_image`, but leaves colours as they are.

    Args:
        encoded: The image file, a scalar string.
        seed: Shape (2,), int: seed of all that is random.
        size: Height and width of the result, in pixels.

    Returns:
        float32 of shape (size, size, 3), 0 to 255.
    """
    return _random_part(encoded, seed, size)


def raw_evaluation_image(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Does as `evaluation_image`, but leaves colours as they are.

    Args:
        encoded: The image file, a scalar string.
        size: Height and width of the result, in pixels.

    Returns:
        float32 of shape (size, size, 3), 0 to 255.
    """
    return _central_part(encoded, size)


def inception_train_image(encoded: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """Does as `train_image`, then changes brightness and saturation, and scales to [-1, 1].

    Args:
        encoded: The image file, a scalar string.
        seed: Shape (2,), int: seed of all that is random.
        size: Height and width of the result, in pixels.

    Returns:
        float32 of shape (size, size, 3).
    """
    seeds = tf.random.split(seed, 3)
    image = _random_part(encoded, seeds[0], size) / 255.0
    image = tf.image.stateless_random_brightness(image, MAX_BRIGHTNESS, seeds[1])
    image = tf.image.stateless_random_saturation(image, *SATURATION, seed=seeds[2])
    return tf.clip_by_value(image, 0.0, 1.0) * 2.0 - 1.0


def inception_evaluation_image(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Takes the central 87.5 % of height and width, resizes (bilinear) and scales to [-1, 1].

    Args:
        encoded: The image file, a scalar string.
        size: Height and width of the result, in pixels.

    Returns:
        float32 of shape (size, size, 3).
    """

    def window(sides: tf.Tensor) -> tf.Tensor:
        kept = tf.cast(sides, tf.float32) * CENTRAL_FRACTION
        first = tf.cast((tf.cast(sides, tf.float32) - kept) / 2, tf.int32)
        return tf.concat([first, sides - 2 * first], axis=0)

    image, _ = _part(encoded, window)
    return _resized(image, size) / 127.5 - 1.0


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Functions from encoded images to the network's input.

    Attributes:
        train: Takes the file, a seed and the size in pixels.
        evaluation: Takes the file and the size.
        size: Height and width that the reference networks use, in pixels.
    """

    train: Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]
    evaluation: Callable[[tf.Tensor, int], tf.Tensor]
    size: int


KNOWN = {
    "resnet": Preprocessing(train_image, evaluation_image, 224),
    "inception": Preprocessing(inception_train_image, inception_evaluation_image, 299),
    "raw": Preprocessing(raw_train_image, raw_evaluation_image, 224),
}
"""The ways of preprocessing by name."""


def get(name: str) -> Preprocessing:
    """Gets a way of preprocessing by its name.

    Args:
        name: "resnet", "inception", or "raw": as "resnet", but with colours of 0 to 255.

    Returns:
        Its functions and image size.

    Raises:
        UserError: If the name is another one.
    """
    if name not in KNOWN:
        raise UserError(
            f"unknown preprocessing {name!r}, known are {', '.join(KNOWN)}: choose one of them."
        )
    return KNOWN[name]


def sized(name: str, image_size: int | None) -> tuple[Preprocessing, int]:
    """Gets a way of preprocessing and the size of the images that it is to give.

    Args:
        name: As `get` takes it.
        image_size: Height and width, in pixels; None for the size that goes with the name.

    Returns:
        The functions, and the height and width in pixels.

    Raises:
        UserError: If the name is unknown or the size not positive.
    """
    found = get(name)
    image_size = found.size if image_size is None else image_size
    checks.positive(image_size=image_size)
    return found, image_size
