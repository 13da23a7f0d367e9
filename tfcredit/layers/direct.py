"""The layer that brings a network's output error straight to what lies below."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfcredit import rules
from tfcredit.errors import UserError
from tfcredit.initializers import feedback_initializer as independent_initializer
from tfcredit.layers.inner_graphs import refuse_vectorized_map
from tfcredit.layers.losses import ThreadLosses
from tfcredit.layers.routing import are_backprop_errors, is_alignment_off
from tfcredit.seeding import default_seed, derive

# Uniform within 1/sqrt(size of h), as in the author's code (github.com/anokland/dfa-torch): |e B|
# is then some |e|/sqrt(3) whatever the size, as an error of backprop neither grows nor fades.
_DISTRIBUTION = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")


@keras.saving.register_keras_serializable("tfcredit")
class DirectFeedback(ThreadLosses, keras.layers.Layer):
    """Direct feedback: the identity on logits, whose error also goes to hidden activities.

    Takes `[logits, h_1, ..., h_L]` and gives the logits. With the error e at the logits, the
    logits get e as usual and each h_l gets s B_l, reshaped, where s is the signal of its rule: e
    (Nøkland 2016, arXiv:1609.01596), or what `tfcredit.rules.DirectRule.signal` gives. h_l is the
    input of a layer of such a rule, which sends no error itself, so that s B_l then travels down
    through activation and batch norm as any error does. Where a path without such a layer leads to
    h_l from above, as the shortcut of a residual block, its error is added.

    Where the rule has B_l learn, it gets e^T h_l through the optimizer of the forward kernels, and
    a decay.

    `tfcredit.models.wire` puts it into a network.

    Args:
        feedback_initializer: Initializer of all B_l, drawn for each with a seed of its own.
            Default: uniform within 1/sqrt(size of h_l), as the author's code has it.
        seed: Integer seed from which theirs are derived. Default: drawn from Python's generator.
        rule: The `DirectRule` of all h_l, or a sequence with one for each: anything that
            `tfcredit.rules.get` takes. Default `"direct_feedback_alignment"`.
        **kwargs: Of `keras.layers.Layer`.

    Attributes:
        feedback_kernels: The variables B_l `[size of the logits, size of h_l]` of one sample,
            trainable where they learn. Together they hold size of the logits times the sum of the
            sizes of all h_l: with 1000 classes and large images far more than the network has
            weights.

    Raises:
        UserError: A rule that is no `DirectRule`; in `build`: the size of the logits or of an h_l
            is not known, or there are not as many rules as h_l.

    Example:
        >>> layer = DirectFeedback(seed=1)
        >>> layer.build([(None, 10), (None, 7, 7, 4)])
        >>> tuple(layer.feedback_kernels[0].shape)
        (10, 196)
    """

    def __init__(
        self,
        feedback_initializer: Any = None,
        seed: int | None = None,
        rule: Any = "direct_feedback_alignment",
        **kwargs: Any,
    ):
        # Logits are often float32 over layers in half precision: all keep the dtype they have.
        super().__init__(autocast=False, **kwargs)
        self.feedback_initializer = keras.initializers.get(feedback_initializer)
        self.seed = default_seed() if seed is None else int(seed)
        is_several = isinstance(rule, Sequence) and not isinstance(rule, str)
        self.rule = [rules.get(each) for each in rule] if is_several else rules.get(rule)
        for each in self.rule if is_several else [self.rule]:
            if not isinstance(each, rules.DirectRule):
                raise UserError(
                    f"rule={each.name!r} sends no signal from the network's output to its layers: "
                    "give DirectFeedback 'direct_feedback_alignment' or another direct rule."
                )

    def build(self, input_shape):
        """Draw the feedback kernels."""
        for shape in input_shape:
            if None in shape[1:]:
                raise UserError(
                    f"direct feedback needs the sizes of all it joins, but one is {tuple(shape)}: "
                    "give the network's input a full shape."
                )
        outputs, *sizes = (math.prod(shape[1:]) for shape in input_shape)
        several = isinstance(self.rule, list)
        self._rules = self.rule if several else [self.rule] * len(sizes)
        if len(self._rules) != len(sizes):
            raise UserError(
                f"direct feedback has {len(self._rules)} rules for {len(sizes)} activities: give "
                "as many, or one for all."
            )
        self.feedback_kernels = [
            self.add_weight(
                name=f"feedback_kernel_{index}",
                shape=(outputs, size),
                initializer=independent_initializer(
                    self.feedback_initializer, _DISTRIBUTION, derive(self.seed, index)
                ),
                trainable=rule.follows_error,
                autocast=False,
            )
            for index, (size, rule) in enumerate(zip(sizes, self._rules, strict=True))
        ]
        for kernel in self.feedback_kernels:
            kernel.follows_forward = True

    def call(self, inputs, training=None):
        """The logits; their error goes to all inputs. A training call adds the kernels' decay."""
        if training:
            refuse_vectorized_map(self.name)
        logits, *hidden = inputs
        kernels = [tf.convert_to_tensor(kernel) for kernel in self.feedback_kernels]
        decays = [rule.decay for rule in self._rules]
        if training and self.trainable and any(decays) and not is_alignment_off():
            # Not a regularizer, which would read the variables a second time.
            pairs = zip(decays, kernels, strict=True)
            self.add_alignment_loss(
                tf.add_n([decay * tf.nn.l2_loss(b) for decay, b in pairs if decay])
            )

        @tf.custom_gradient
        def join(logits, *others):
            hidden, kernels = others[: len(self._rules)], others[len(self._rules) :]

            def gradient(error):
                if are_backprop_errors():
                    return error, *(None for _ in others)
                signals = {r: _flat(r.signal(error, logits)) for r in dict.fromkeys(self._rules)}
                direct = list(zip(self._rules, hidden, kernels, strict=True))
                sent = [_sent(signals[rule], h, b) for rule, h, b in direct]
                taught = [_taught(rule, error, h, b) for rule, h, b in direct]
                return error, *sent, *taught

            return tf.identity(logits), gradient

        return join(logits, *hidden, *kernels)

    def compute_output_spec(self, inputs, training=None):
        """The logits' shape and dtype."""
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def get_config(self) -> dict:
        """Constructor arguments, as plain data."""
        initializer = keras.initializers.serialize(self.feedback_initializer)
        several = isinstance(self.rule, list)
        rule = [rules.serialize(r) for r in self.rule] if several else rules.serialize(self.rule)
        own = {"feedback_initializer": initializer, "seed": self.seed, "rule": rule}
        return super().get_config() | own


def _sent(signal: tf.Tensor, h: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """What an activity hears."""
    return tf.reshape(tf.cast(signal, h.dtype) @ tf.cast(b, h.dtype), tf.shape(h))


def _taught(rule, error: tf.Tensor, h: tf.Tensor, b: tf.Tensor) -> tf.Tensor | None:
    """What a feedback kernel gets of the error at the logits."""
    if not rule.follows_error:
        return None
    return tf.matmul(tf.cast(_flat(error), b.dtype), tf.cast(_flat(h), b.dtype), transpose_a=True)


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    """One row for each sample."""
    return tf.reshape(tensor, [tf.shape(tensor)[0], math.prod(tensor.shape[1:])])
