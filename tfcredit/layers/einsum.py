"""The feedback layer of tensor products."""

import keras

from tfcredit.connections import EinsumConnection
from tfcredit.layers.feedback import FeedbackLayer


@keras.saving.register_keras_serializable("tfcredit")
class EinsumDense(FeedbackLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` whose errors travel through a feedback kernel.

    Takes the arguments of `keras.layers.EinsumDense`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.feedback.FeedbackLayer` describes them. Shapes of input, kernels and
    output are those of the equation; with a feedback kernel, every axis must be in two of them
    (`tfcredit.connections.EinsumConnection`).

    Example:
        >>> layer = EinsumDense("abc,cde->abde", (None, 2, 8), rule="info_alignment")
        >>> layer.build((None, 10, 16))
        >>> tuple(layer.feedback_kernel.shape)
        (16, 2, 8)
    """

    def build(self, input_shape):
        """See `FeedbackLayer.build`."""
        if self.rule.has_feedback_kernel or self.rule.feedback_rank is not None:
            self.connection = EinsumConnection(self.equation, len(input_shape))
        super().build(input_shape)

    def _product(self, x, kernel):
        return keras.ops.einsum(self.equation, x, kernel)

    def _initial_feedback_kernel(self, shape, dtype=None):
        initializer = self.feedback_initializer
        if isinstance(initializer, keras.initializers.VarianceScaling):
            # As Keras does for the forward kernel: the fans of the equation's axes.
            config, axes = initializer.get_config(), self.connection.axes(shape)
            if None in (config["input_axes"], config["output_axes"]):
                kept = [axis for axis in range(len(shape)) if axis not in axes.inputs]
                config |= {"input_axes": list(axes.inputs), "output_axes": kept}
            return type(initializer).from_config(config)(shape, dtype)
        return super()._initial_feedback_kernel(shape, dtype)
