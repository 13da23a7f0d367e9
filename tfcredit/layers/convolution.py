"""Convolutional feedback layers."""

import keras

from tfcredit.connections import ConvConnection
from tfcredit.layers.feedback import FeedbackLayer


class _Conv(FeedbackLayer):
    def build(self, input_shape):
        """See `FeedbackLayer.build`."""
        padding = self.padding
        if padding == "causal":
            padding = [(self.dilation_rate[0] * (self.kernel_size[0] - 1), 0)]
        self.connection = ConvConnection(
            self.strides, padding, self.dilation_rate, self.data_format, self.groups
        )
        super().build(input_shape)


@keras.saving.register_keras_serializable("tfcredit")
class Conv1D(_Conv, keras.layers.Conv1D):
    """`keras.layers.Conv1D` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Conv1D`, and `rule`, `feedback_initializer` and `seed` as
    `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, steps, channels]` (or
    channels first), kernels `[steps, channels / groups, filters]`.

    Example:
        >>> layer = Conv1D(8, 3, padding="causal", rule="feedback_alignment")
        >>> layer.build((None, 20, 4))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 4, 8)
    """


@keras.saving.register_keras_serializable("tfcredit")
class Conv2D(_Conv, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Conv2D`, and `rule`, `feedback_initializer` and `seed` as
    `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, height, width,
    channels]` (or channels first), kernels `[height, width, channels / groups, filters]`.

    Example:
        >>> layer = Conv2D(8, 3, rule="feedback_alignment")
        >>> layer.build((None, 28, 28, 1))
        >>> layer.feedback_kernel.trainable
        False
    """


@keras.saving.register_keras_serializable("tfcredit")
class Conv3D(_Conv, keras.layers.Conv3D):
    """`keras.layers.Conv3D` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Conv3D`, and `rule`, `feedback_initializer` and `seed` as
    `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, depth, height, width,
    channels]` (or channels first), kernels `[depth, height, width, channels / groups, filters]`.

    Example:
        >>> layer = Conv3D(8, 3, rule="info_alignment")
        >>> layer.build((None, 9, 9, 9, 1))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 3, 3, 1, 8)
    """
