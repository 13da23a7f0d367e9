"""The layer that brings a network's output error straight to what lies below."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.initializers import feedback_initializer as independent_initializer
from tfcredit.layers.routing import are_backprop_errors
from tfcredit.seeding import default_seed, derive

# Uniform within 1/sqrt(size of h), as in the author's code (github.com/anokland/dfa-torch): |e B|
# is then some |e|/sqrt(3) whatever the size, as an error of backprop neither grows nor fades.
_DISTRIBUTION = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")


@keras.saving.register_keras_serializable("tfcredit")
class DirectFeedback(keras.layers.Layer):
    """Direct feedback: the identity on logits, whose error also goes to hidden activities.

    Takes `[logits, h_1, ..., h_L]` and gives the logits. With the error e at the logits, the
    logits get e as usual and each h_l gets e B_l, reshaped (Nøkland 2016, arXiv:1609.01596):
    h_l is the input of a layer of the rule `direct_feedback_alignment`, which sends
    none itself, so that e B_l then travels down through activation and batch norm as any error
    does. Where a path without such a layer leads to h_l from above, as the shortcut of a residual
    block, its error is added.

    `tfcredit.models.wire` puts it into a network.

    Args:
        feedback_initializer: Initializer of all B_l, drawn for each with a seed of its own.
            Default: uniform within 1/sqrt(size of h_l), as the author's code has it.
        seed: Integer seed from which theirs are derived. Default: drawn from Python's generator.
        **kwargs: Of `keras.layers.Layer`.

    Attributes:
        feedback_kernels: The variables B_l `[size of the logits, size of h_l]` of one sample, fixed
            and not trainable. Together they hold size of the logits times the sum of the sizes of
            all h_l: with 1000 classes and large images far more than the network has weights.

    Raises:
        UserError: In `build`: the size of the logits or of an h_l is not known.

    Example:
        >>> layer = DirectFeedback(seed=1)
        >>> layer.build([(None, 10), (None, 7, 7, 4)])
        >>> tuple(layer.feedback_kernels[0].shape)
        (10, 196)
    """

    def __init__(self, feedback_initializer: Any = None, seed: int | None = None, **kwargs: Any):
        # Logits are often float32 over layers in half precision: all keep the dtype they have.
        super().__init__(autocast=False, **kwargs)
        self.feedback_initializer = keras.initializers.get(feedback_initializer)
        self.seed = default_seed() if seed is None else int(seed)

    def build(self, input_shape):
        """Draw the feedback kernels."""
        for shape in input_shape:
            if None in shape[1:]:
                raise UserError(
                    f"direct feedback needs the sizes of all it joins, but one is {tuple(shape)}: "
                    "give the network's input a full shape."
                )
        outputs, *sizes = (math.prod(shape[1:]) for shape in input_shape)
        self.feedback_kernels = [
            self.add_weight(
                name=f"feedback_kernel_{index}",
                shape=(outputs, size),
                initializer=independent_initializer(
                    self.feedback_initializer, _DISTRIBUTION, derive(self.seed, index)
                ),
                trainable=False,
                autocast=False,
            )
            for index, size in enumerate(sizes)
        ]

    def call(self, inputs):
        """The logits; their error goes to all inputs."""
        logits, *hidden = inputs
        kernels = [tf.convert_to_tensor(kernel) for kernel in self.feedback_kernels]

        @tf.custom_gradient
        def join(logits, *hidden):
            def gradient(error):
                if are_backprop_errors():
                    return error, *(None for _ in hidden)
                flat = tf.reshape(error, [tf.shape(error)[0], math.prod(error.shape[1:])])
                direct = [
                    tf.reshape(tf.cast(flat, h.dtype) @ tf.cast(b, h.dtype), tf.shape(h))
                    for h, b in zip(hidden, kernels, strict=True)
                ]
                return error, *direct

            return tf.identity(logits), gradient

        return join(logits, *hidden)

    def compute_output_spec(self, inputs):
        """The logits' shape and dtype."""
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def get_config(self) -> dict:
        """Constructor arguments, as plain data."""
        initializer = keras.initializers.serialize(self.feedback_initializer)
        own = {"feedback_initializer": initializer, "seed": self.seed}
        return super().get_config() | own
