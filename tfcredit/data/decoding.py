"""Encoded images to uint8 colours: JPEG in one op with its crop, anything else after decoding.

Of ImageNet's files named `.JPEG`, one is a PNG and some twenty are CMYK.
"""

import tensorflow as tf


def shape(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width of an encoded image, for a JPEG without decoding it.

    Args:
        encoded: The file's content, a scalar string.

    Returns:
        int32 of shape (2,), in pixels.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
        lambda: tf.shape(tf.io.decode_png(encoded, channels=3))[:2],
    )


def crop(encoded: tf.Tensor, window: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes a part of an image.

    Args:
        encoded: JPEG (grey, colour or CMYK), PNG or GIF without animation; a scalar string.
        window: int32 of shape (4,): top, left, height and width of the part, in pixels.
        channels: 3 for colours, 1 for grey.

    Returns:
        uint8 of shape (height, width, channels).
    """

    def other() -> tf.Tensor:
        image = tf.io.decode_png(encoded, channels=channels)
        return tf.image.crop_to_bounding_box(image, window[0], window[1], window[2], window[3])

    return tf.cond(
        tf.io.is_jpeg(encoded),
        # As other decoders do it; TensorFlow's default is off by up to 4 of 255 and no faster.
        lambda: tf.io.decode_and_crop_jpeg(
            encoded, window, channels=channels, dct_method="INTEGER_ACCURATE"
        ),
        other,
    )
