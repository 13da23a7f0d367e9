"""Transposed convolutional feedback layers."""

import keras

from tfcredit.connections import ConvConnection, TransposedConnection
from tfcredit.layers.feedback import FeedbackLayer


class _ConvTranspose(FeedbackLayer):
    def build(self, input_shape):
        """See `FeedbackLayer.build`."""
        inner = ConvConnection(self.strides, self.padding, self.dilation_rate, self.data_format)
        self.connection = TransposedConnection(inner, self.output_padding)
        super().build(input_shape)


@keras.saving.register_keras_serializable("tfcredit")
class Conv1DTranspose(_ConvTranspose, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Conv1DTranspose`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, steps,
    channels]` (or channels first), kernels `[steps, filters, channels]`.

    Example:
        >>> layer = Conv1DTranspose(8, 3, strides=2, rule="feedback_alignment")
        >>> layer.build((None, 10, 4))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 8, 4)
    """


@keras.saving.register_keras_serializable("tfcredit")
class Conv2DTranspose(_ConvTranspose, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Conv2DTranspose`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, height, width,
    channels]` (or channels first), kernels `[height, width, filters, channels]`.

    Example:
        >>> layer = Conv2DTranspose(8, 3, strides=2, rule="feedback_alignment")
        >>> layer.build((None, 7, 7, 4))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 3, 8, 4)
    """


@keras.saving.register_keras_serializable("tfcredit")
class Conv3DTranspose(_ConvTranspose, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Conv3DTranspose`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, depth, height,
    width, channels]` (or channels first), kernels `[depth, height, width, filters, channels]`.

    Example:
        >>> layer = Conv3DTranspose(8, 3, strides=2, rule="feedback_alignment")
        >>> layer.build((None, 5, 5, 5, 4))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 3, 3, 8, 4)
    """
