"""The "resnet" preprocessing of ImageNet, as the reference networks were trained with it."""

import tensorflow as tf

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, in 0 to 1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation likewise."""
EVALUATION_RATIO = 256 / 224
"""Short side of an evaluated image to the side of its central crop."""


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Scales colours of 0 to 255 to (x / 255 - `MEAN`) / `STD`.

    Args:
        images: Shape (..., 3), any real dtype.

    Returns:
        float32 of the same shape.
    """
    return (tf.cast(images, tf.float32) / 255.0 - tf.constant(MEAN)) / tf.constant(STD)


def train_image(encoded: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """A random part of an image, resized (bilinear) and mirrored left to right half of the time.

    The part has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3; after 100 tries without
    such a part it is the whole image.

    Args:
        encoded: The JPEG file, a scalar string.
        seed: Shape (2,), int: what all randomness is a function of.
        size: Height and width of the result.

    Returns:
        float32 of shape (size, size, 3), normalised.
    """
    seeds = tf.random.split(seed, 2)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seeds[0],
        # The box is the whole image, so any minimum above the area's own would raise that one.
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
    )
    # One op for both, because only the part is then decoded.
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.image.resize(image, [size, size], method="bilinear")
    image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    return normalise(image)


def evaluation_image(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """The centre of an image after a bilinear resize of its short side to 256/224 of `size`.

    Args:
        encoded: The JPEG file, a scalar string.
        size: Height and width of the result.

    Returns:
        float32 of shape (size, size, 3), normalised.
    """
    image = tf.image.decode_jpeg(encoded, channels=3)
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    short = round(size * EVALUATION_RATIO)
    sides = tf.cast(tf.round(sides * (short / tf.reduce_min(sides))), tf.int32)
    image = tf.image.resize(image, sides, method="bilinear")
    image = tf.image.resize_with_crop_or_pad(image, size, size)
    return normalise(image)
