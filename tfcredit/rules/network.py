"""Rules that need the network: no error passes from a layer to the one below.

`tfcredit.models.get` and `tfcredit.convert.to_feedback` make networks that have what these rules
need; a network made by hand gets it from `tfcredit.models.wire`. Without it hardly a layer learns.
"""

import tensorflow as tf

from tfcredit import checks
from tfcredit.precision import spacing
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register

# Errors of softmax cross entropy have their form up to so many roundings of the logits' dtype.
_ROUNDINGS = 32.0


class DirectRule(Rule):
    """Base of the rules under which each layer hears from the network's output alone.

    A layer sends no error down; what is below it gets s B instead, with a signal s at the logits
    and a B of its own. These B belong to the network's one layer `tfcredit.layers.DirectFeedback`.
    Other layers of the network may have other rules.

    Attributes:
        follows_error: Whether B learns, by the product of the error at the logits and the activity
            that gets s B, through the optimizer of the forward kernels.
        decay: Coefficient of 1/2 |B|^2 in the loss.
    """

    has_feedback_kernel = False
    sends_error = False
    follows_error = False
    decay = 0.0

    def signal(self, error: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """What is sent.

        Args:
            error: The error at the logits.
            logits: The logits, of its shape `[n, ..., classes]` and dtype.

        Returns:
            A tensor of the shape and dtype of `error`; by default `error`.
        """
        return error


@register("direct_feedback_alignment")
class DirectFeedbackAlignment(DirectRule):
    """Errors go straight from the network's output to each layer (Nøkland 2016, arXiv:1609.01596).

    Each B is fixed and random.
    """


@register("direct_kolen_pollack")
class DirectKolenPollack(DirectRule):
    """Direct feedback whose B learns from the output's error e and the activity h that hears it.

    dB = e^T h + decay B, through the optimizer of the forward kernels: what the kernel of a direct
    path from h to the logits would get, as Kolen and Pollack's B gets what W gets. For the layer
    below the logits' it is their rule: B follows the transpose of the W above. Further down B comes
    to estimate the path of all Ws between.

    Source: Webster, Choi & Ahn 2021, "Learning the connections in direct feedback alignment".
    Ours: the default decay, that of `KolenPollack`.

    Args:
        decay: Share of B that the gradient takes away, >= 0. Default 2e-3.

    Raises:
        UserError: A value that is negative or not finite.
    """

    follows_error = True

    def __init__(self, decay: float = 2e-3):
        self.decay = checks.number("decay", decay, at_least=0)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"decay": self.decay}


@register("drtp")
class DRTP(DirectRule):
    """Direct random target projection: layers hear the targets through fixed B, not the errors.

    With softmax cross entropy, the error at the logits is c (softmax(logits) - y) for one-hot
    targets y, where c holds the sample's weight and the mean over the batch. Layers get -c y B:
    what `direct_feedback_alignment` sends, without the prediction. So a real layer need not wait
    for the forward pass to end.

    y and c are read off the errors. Another loss, or targets that are not one-hot, as smoothed
    ones, give an error that says so when the network trains; under XLA, which drops assertions,
    the signal is NaN. A sample whose prediction is right to the last digit, so that its error is
    zero, is not heard.

    Source: Frenkel, Lefebvre & Bol 2021 (Frontiers in Neuroscience 15:629892). Ours: the
    distribution of B, that of `direct_feedback_alignment`, and the sign, which the symmetric
    distribution of B makes immaterial.
    """

    def signal(self, error: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `DirectRule.signal`."""
        e, p = tf.cast(error, tf.float32), tf.nn.softmax(tf.cast(logits, tf.float32))
        # The target's error is the least. Where a prediction is right to the last digit, errors of
        # other classes may be 0 as well.
        is_least = e <= tf.reduce_min(e, -1, keepdims=True)
        y = tf.one_hot(tf.argmax(tf.where(is_least, p, -1.0), -1), e.shape[-1])
        # Of the other classes, where no two numbers that are nearly equal are subtracted.
        sums = [tf.reduce_sum(each * (1.0 - y), -1, keepdims=True) for each in (e, p)]
        scale = tf.math.divide_no_nan(*sums)
        # Losses of float64 logits are float32 by default, as all is here.
        step = max(spacing(logits.dtype), spacing(tf.float32))
        slack = _ROUNDINGS * step * tf.abs(scale)
        has_form = tf.reduce_all(tf.abs(e - scale * (p - y)) <= slack)
        told = tf.debugging.Assert(
            has_form,
            [
                "rule 'drtp' reads one-hot targets off the errors of softmax cross entropy, but "
                "these errors are of another loss or of smoothed targets: train with "
                "SparseCategoricalCrossentropy(from_logits=True) and without label smoothing."
            ],
        )
        with tf.control_dependencies([] if told is None else [told]):
            return tf.cast(tf.where(has_form, -scale * y, float("nan")), error.dtype)


@register("node_perturbation")
class NodePerturbation(Rule):
    """Each node's own noise, times how much the noise of all nodes changed the loss.

    A training call runs the network twice, the second time with noise s xi on the pre-activations.
    With the change c of a sample's loss, dW = c/s H(x, xi), summed over samples, and the bias
    likewise: in the mean the gradient, up to the order s^2, but the noisier the more nodes there
    are. No error travels. `tfcredit.models.PerturbedNetwork` does it.

    Sources: Werfel, Xie & Seung 2005 (Neural Computation 17); Fiete & Seung 2006 (Physical Review
    Letters 97, 048104); Züge, Klos & Memmesheimer 2023 (Physical Review X 13, 021006).

    Args:
        stddev: Standard deviation s of the noise, > 0. Default 0.1.

    Raises:
        UserError: A value that is not a positive finite number.
    """

    has_feedback_kernel = False
    sends_error = False

    def __init__(self, stddev: float = 0.1):
        self.stddev = checks.number("stddev", stddev, above=0)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"stddev": self.stddev}
