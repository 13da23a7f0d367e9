"""The dense feedback layer."""

import keras

from tfcredit.connections import DenseConnection
from tfcredit.layers.feedback import FeedbackLayer


@keras.saving.register_keras_serializable("tfcredit")
class Dense(FeedbackLayer, keras.layers.Dense):
    """`keras.layers.Dense` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.Dense`, and `rule`, `feedback_initializer` and `seed` as
    `tfcredit.layers.feedback.FeedbackLayer` describes them. Input `[batch, ..., inputs]`, kernels
    `[inputs, units]`, output `[batch, ..., units]`.

    Example:
        >>> layer = Dense(3, rule="info_alignment")
        >>> layer.build((None, 5))
        >>> tuple(layer.feedback_kernel.shape)
        (5, 3)
    """

    connection = DenseConnection()
