"""The weight mirror as its authors first ran it, in phases of its own."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfcredit import checks
from tfcredit.rules.base import Rule
from tfcredit.rules.inputs import NOISES, checked_activation
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState
from tfcredit.seeding import derive


@register("akrout_mirror")
class AkroutMirror(Rule):
    """B <- B + rate H(x, y) / samples on the layer's own noise x, in mirror batches. Local.

    In a mirror batch every layer gets i.i.d. zero-mean noise x of its own, that no other layer
    sees, and y = activation(op(x; W) + bias). A phase of `first_steps` mirror batches comes before
    training, then one follows each training step: here, one comes before errors travel in the
    next training call, which is the same. Mirror batches need no data and all replicas draw alike.

    Source: the code of Akrout et al. 2019 (arXiv:1904.05391), which is for dense sigmoid layers.
    Its numbers are the defaults: 128 samples, uniform noise of width 0.1 (standard deviation
    0.0289), rate 0.01 for a sum over 128 samples (1.28 for a mean), no decay, and a first phase of
    one MNIST epoch. Ours: layers of other kinds, for which H also sums over positions, and their
    own activation in the place of the sigmoid.

    The code means to keep B from growing: after the first phase and after each later mirror batch,
    B <- rescale / s * B, where s is the standard deviation of the outputs opT(z; B) of a sample
    over features (and, ours, positions), averaged over samples z of uniform numbers in [0, 1), and
    `rescale` is 0.5. As published, that line rebinds a loop variable and so has no effect:
    `rescale=None`. Then B grows for ever, at a rate that in a convolution is as many times larger
    as it has positions.

    Args:
        samples: Noise samples of a mirror batch. Default 128.
        distribution: Of the noise, `"uniform"` (default) or `"normal"`.
        stddev: Standard deviation of the noise. Default 0.0289.
        rate: Learning rate of B, > 0. Default 1.28.
        first_steps: Mirror batches before training, >= 0. Default 468.
        rescale: Standard deviation of B's outputs (as meant), or `None` (as published). Default
            0.5.
        decay: Share of B that each mirror batch forgets, in [0, 1). Default 0, ours.
        activation: Name of the activation behind y; `None` (default) for the layer's own. Theirs
            is `"sigmoid"`.

    Raises:
        UserError: A value outside these ranges, an unknown distribution or activation.
    """

    noise = "shared"

    def __init__(
        self,
        samples: int = 128,
        distribution: str = "uniform",
        stddev: float = 0.0289,
        rate: float = 1.28,
        first_steps: int = 468,
        rescale: float | None = 0.5,
        decay: float = 0.0,
        activation: str | None = None,
    ):
        self.samples = checks.integer("samples", samples, at_least=1)
        self.distribution = checks.choice("distribution", distribution, NOISES)
        self.stddev = checks.number("stddev", stddev, above=0)
        self.rate = checks.number("rate", rate, above=0)
        self.first_steps = checks.integer("first_steps", first_steps, at_least=0)
        self.rescale = None if rescale is None else checks.number("rescale", rescale, above=0)
        self.decay = checks.number("decay", decay, at_least=0, below=1)
        self.activation = checked_activation(activation)

    def update(self, state: LayerState) -> tf.Tensor:
        """See `Rule.update`."""
        # Behind a stop-gradient, so that an eager tape keeps nothing of the mirror batches.
        w = tf.stop_gradient(state.kernel)
        bias = None if state.bias is None else tf.cast(tf.stop_gradient(state.bias), w.dtype)
        own = self.activation is None
        activation = state.activation if own else keras.activations.get(self.activation)

        def mirror(index, b):
            x = self.stddev * self._noise(state, state.x, index)
            y = state.connection.op(x, w)
            y = activation(y if bias is None else y + bias)
            product = state.connection.hebbian(x, y, w.shape)
            return index + 1, (1.0 - self.decay) * b + self.rate / self.samples * product

        count = tf.where(tf.equal(state.step, 0), self.first_steps, 1)
        start = tf.constant(0), state.feedback_kernel
        _, b = tf.while_loop(lambda index, b: index < count, mirror, start)
        return b if self.rescale is None else self._rescaled(state, b)

    def _rescaled(self, state: LayerState, b: tf.Tensor) -> tf.Tensor:
        # Noise is a function of seed, step and index: this one needs a seed of its own.
        other = dataclasses.replace(state, seed=derive(state.seed, "rescale"))
        unit = self._noise(other, state.y, None, "uniform")
        z = 0.5 + unit / math.sqrt(12.0)
        shape = tf.concat([[self.samples], tf.shape(state.x)[1:]], 0)
        outputs = state.connection.op_transpose(z, b, shape)
        spread = tf.math.reduce_std(tf.reshape(outputs, [self.samples, -1]), 1)
        return b * tf.math.divide_no_nan(tf.cast(self.rescale, b.dtype), tf.reduce_mean(spread))

    def _noise(self, state: LayerState, like: tf.Tensor, index, distribution=None) -> tf.Tensor:
        """Unit noise in the place of a batch of activity."""
        shape = tf.concat([[self.samples], tf.shape(like)[1:]], 0)
        distribution = distribution or self.distribution
        dtype = state.kernel.dtype
        drawn = state.noise(shape, dtype, distribution, index=index)
        return tf.ensure_shape(drawn, [self.samples, *like.shape[1:]])

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {
            "samples": self.samples,
            "distribution": self.distribution,
            "stddev": self.stddev,
            "rate": self.rate,
            "first_steps": self.first_steps,
            "rescale": self.rescale,
            "decay": self.decay,
            "activation": self.activation,
        }
