"""The 2-D convolutional feedback layer."""

import keras

from tfcredit.connections import Conv2DConnection
from tfcredit.layers.feedback import FeedbackLayer


@keras.saving.register_keras_serializable("tfcredit")
class Conv2D(FeedbackLayer, keras.layers.Conv2D):
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

    def build(self, input_shape):
        """See `FeedbackLayer.build`."""
        self.connection = Conv2DConnection(
            self.strides, self.padding, self.dilation_rate, self.data_format, self.groups
        )
        super().build(input_shape)
