"""Depthwise convolutional feedback layers."""

import keras

from tfcredit.connections import DepthwiseConnection
from tfcredit.layers.feedback import FeedbackLayer


class _DepthwiseConv(FeedbackLayer):
    @property
    def kernel_initializer(self):
        """Keras' name for it is `depthwise_initializer`."""
        return self.depthwise_initializer

    def build(self, input_shape):
        """See `FeedbackLayer.build`."""
        self.connection = DepthwiseConnection(
            self.strides, self.padding, self.dilation_rate, self.data_format
        )
        super().build(input_shape)


@keras.saving.register_keras_serializable("tfcredit")
class DepthwiseConv1D(_DepthwiseConv, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.DepthwiseConv1D`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, steps,
    channels]` (or channels first), kernels `[steps, channels, depth_multiplier]`.

    Example:
        >>> layer = DepthwiseConv1D(3, rule="feedback_alignment")
        >>> layer.build((None, 10, 4))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 4, 1)
    """


@keras.saving.register_keras_serializable("tfcredit")
class DepthwiseConv2D(_DepthwiseConv, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.DepthwiseConv2D`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, height, width,
    channels]` (or channels first), kernels `[height, width, channels, depth_multiplier]`.

    Example:
        >>> layer = DepthwiseConv2D(3, rule="feedback_alignment")
        >>> layer.build((None, 7, 7, 4))
        >>> tuple(layer.feedback_kernel.shape)
        (3, 3, 4, 1)
    """
