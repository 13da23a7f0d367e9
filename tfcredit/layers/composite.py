"""Keras layers that are made of several feedback layers."""

from typing import Any

import keras
import tensorflow as tf

from tfcredit import rules
from tfcredit.errors import UserError
from tfcredit.layers.activity import add_bias
from tfcredit.layers.convolution import Conv1D, Conv2D
from tfcredit.layers.depthwise import DepthwiseConv1D, DepthwiseConv2D
from tfcredit.layers.einsum import EinsumDense
from tfcredit.layers.feedback import refuse_recurrent_rule
from tfcredit.seeding import default_seed, derive


class CompositeLayer(keras.layers.Layer):
    """Mixin of Keras layers with several kernels; stands before the Keras class in the bases.

    Each kernel belongs to an inner feedback layer, which has the rule, and seeds of its own.

    Args:
        *args: Positional arguments of the Keras layer.
        rule: The rule of all inner layers: anything that `tfcredit.rules.get` takes. Default
            `"backprop"`: the Keras layer.
        feedback_initializer: Initializer of their feedback kernels, as `FeedbackLayer` has it.
        seed: Integer seed from which theirs are derived; also that of the Keras layer's dropout.
            Default: drawn from Python's generator.
        **kwargs: Keyword arguments of the Keras layer.

    Attributes:
        rule: The `Rule`.

    Raises:
        UserError: An unknown rule, or one that sends no error down.
    """

    def __init__(
        self,
        *args: Any,
        rule: Any = "backprop",
        feedback_initializer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        refuse_recurrent_rule(type(self), kwargs)
        self.rule = rules.get(rule)
        self.check_rule(self.rule)
        self.feedback_initializer = keras.initializers.get(feedback_initializer)
        self.seed = seed = default_seed() if seed is None else int(seed)
        super().__init__(*args, **self._keras_arguments(seed), **kwargs)
        self.seed = seed

    @classmethod
    def check_rule(cls, rule: rules.Rule) -> None:
        """Refuse a rule that inner layers can't have.

        Args:
            rule: The rule.

        Raises:
            UserError: It sends no error down, so that none would reach all but the topmost kernel.
        """
        if not rule.sends_error:
            raise UserError(
                f"{cls.__name__} has several kernels, between which rule {rule.name!r} would send "
                "no error: give it another rule or 'backprop', in to_feedback by "
                "layers={'NAME': None, '.*': RULE}."
            )

    def _keras_arguments(self, seed: int) -> dict:
        """The part of our arguments that the Keras layer takes."""
        return {}

    def _own(self, name: str) -> dict:
        """Arguments of the inner layer of a name."""
        return self._settings() | {"seed": derive(self.seed, name)}

    def _settings(self) -> dict:
        # Plain data, so that no two layers hold one initializer: it would draw the same values.
        return {
            "rule": rules.serialize(self.rule),
            "feedback_initializer": keras.initializers.serialize(self.feedback_initializer),
            "seed": self.seed,
        }

    def get_config(self) -> dict:
        """Constructor arguments, as plain data."""
        return super().get_config() | self._settings()


class _SeparableConv(CompositeLayer):
    depthwise = pointwise = None

    def build(self, input_shape):
        """Create the two inner layers; the Keras layer's variables for backprop."""
        if self.rule.is_backprop:
            super().build(input_shape)
            return
        depthwise, pointwise = self._kinds
        common = {"data_format": self.data_format, "dtype": self.dtype_policy}
        self.depthwise = depthwise(
            self.kernel_size,
            self.strides,
            self.padding,
            self.depth_multiplier,
            dilation_rate=self.dilation_rate,
            use_bias=False,
            depthwise_initializer=self.depthwise_initializer,
            depthwise_regularizer=self.depthwise_regularizer,
            depthwise_constraint=self.depthwise_constraint,
            name="depthwise",
            **common,
            **self._own("depthwise"),
        )
        self.pointwise = pointwise(
            self.filters,
            1,
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_initializer=self.pointwise_initializer,
            kernel_regularizer=self.pointwise_regularizer,
            kernel_constraint=self.pointwise_constraint,
            bias_initializer=self.bias_initializer,
            bias_regularizer=self.bias_regularizer,
            bias_constraint=self.bias_constraint,
            name="pointwise",
            **common,
            **self._own("pointwise"),
        )
        self.depthwise.build(input_shape)
        self.pointwise.build(self.depthwise.compute_output_shape(input_shape))

    def call(self, inputs):
        """The layer's output; Keras tells the inner layers whether it is a training call."""
        if self.depthwise is None:
            return self._plain_call(inputs)
        return self.pointwise(self.depthwise(inputs))

    def add_weight(self, *args, name=None, **kwargs):
        """See `keras.layers.Layer.add_weight`: the bias in its own dtype, as `FeedbackLayer`'s."""
        if name == "bias":
            kwargs["autocast"] = False
        return super().add_weight(*args, name=name, **kwargs)

    def _plain_call(self, inputs):
        """Keras' call, but for a bias whose gradient Keras would sum in half precision."""
        if not self.use_bias or tf.as_dtype(self.compute_dtype).size >= 4:
            return super().call(inputs)
        y = keras.ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        bias = tf.convert_to_tensor(self.bias)
        if self.data_format == "channels_first":
            bias = tf.reshape(bias, [1, -1] + [1] * self.rank)
        y = add_bias(y, bias)
        return y if self.activation is None else self.activation(y)


@keras.saving.register_keras_serializable("tfcredit")
class SeparableConv1D(_SeparableConv, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.SeparableConv1D`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.CompositeLayer` describes them. With feedback kernels it holds a
    `DepthwiseConv1D` and a pointwise `Conv1D`, as `depthwise` and `pointwise`, and the kernels are
    theirs.

    Example:
        >>> layer = SeparableConv1D(8, 3, rule="feedback_alignment")
        >>> layer.build((None, 10, 4))
        >>> tuple(layer.depthwise.feedback_kernel.shape), tuple(layer.pointwise.kernel.shape)
        ((3, 4, 1), (1, 4, 8))
    """

    _kinds = DepthwiseConv1D, Conv1D


@keras.saving.register_keras_serializable("tfcredit")
class SeparableConv2D(_SeparableConv, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.SeparableConv2D`, and `rule`, `feedback_initializer` and
    `seed` as `tfcredit.layers.CompositeLayer` describes them. With feedback kernels it holds a
    `DepthwiseConv2D` and a pointwise `Conv2D`, as `depthwise` and `pointwise`, and the kernels are
    theirs.

    Example:
        >>> layer = SeparableConv2D(8, 3, rule="feedback_alignment")
        >>> layer.build((None, 7, 7, 4))
        >>> tuple(layer.depthwise.feedback_kernel.shape), tuple(layer.pointwise.kernel.shape)
        ((3, 3, 4, 1), (1, 1, 4, 8))
    """

    _kinds = DepthwiseConv2D, Conv2D


class _Attention(CompositeLayer):
    def _keras_arguments(self, seed):
        return {"seed": seed}

    def __setattr__(self, name, value):
        # Keras makes the projections in `build` and takes no other class for them; each is
        # exchanged as it is made, before it has variables.
        if type(value) is keras.layers.EinsumDense:
            value = EinsumDense.from_config(value.get_config() | self._own(value.name))
        super().__setattr__(name, value)


@keras.saving.register_keras_serializable("tfcredit")
class MultiHeadAttention(_Attention, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` whose projections' errors travel through feedback kernels.

    Takes the arguments of `keras.layers.MultiHeadAttention`, and `rule`, `feedback_initializer`
    and `seed` as `tfcredit.layers.CompositeLayer` describes them. The projections of queries,
    keys, values and output are `EinsumDense` layers of this rule; the attention between them has
    no kernel, and errors travel through it as in backprop.

    Example:
        >>> layer = MultiHeadAttention(2, 4, rule="info_alignment")
        >>> layer.build((None, 5, 6), (None, 5, 6))
        >>> tuple(layer.query_dense.feedback_kernel.shape)
        (6, 2, 4)
    """


@keras.saving.register_keras_serializable("tfcredit")
class GroupQueryAttention(_Attention, keras.layers.GroupQueryAttention):
    """`keras.layers.GroupQueryAttention` whose projections' errors travel through feedback kernels.

    Takes the arguments of `keras.layers.GroupQueryAttention`, and `rule`, `feedback_initializer`
    and `seed` as `tfcredit.layers.CompositeLayer` describes them. The projections are
    `EinsumDense` layers of this rule, as in `MultiHeadAttention`.

    Example:
        >>> layer = GroupQueryAttention(4, 4, 2, rule="info_alignment")
        >>> layer.build((None, 5, 6), (None, 5, 6))
        >>> tuple(layer._key_dense.feedback_kernel.shape)
        (6, 2, 4)
    """
