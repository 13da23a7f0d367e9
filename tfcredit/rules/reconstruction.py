"""Rules by which B learns to reconstruct: autoencoders, local difference target propagation."""

import dataclasses

import tensorflow as tf

from tfcredit import checks
from tfcredit.primitives import Seen, value_and_terms
from tfcredit.primitives.seen import summed_in
from tfcredit.rules.alignment import NamedAlignmentRule, descending
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState
from tfcredit.seeding import derive


@register("autoencoder_alignment")
class AutoencoderAlignment(NamedAlignmentRule):
    """R = amp + null: B learns to give x back from y = op(x; W), as a linear decoder does.

    Args:
        amp: Default 1e-3.
        null: Default 1e-3.
        inputs: See `AlignmentRule`.
        rate: See `AlignmentRule`.

    Equal coefficients make R = coefficient/(2n) |x - opT(y; B)|^2 up to a constant, which is how
    difference target propagation learns its inverse (Lee et al. 2015, on a linear layer). Local.
    Its fixed point is the regression of x on y, not W: near W's direction only as far as the
    activity is white.
    """

    defaults = {"amp": 1e-3, "null": 1e-3}


@register("l_drl")
class LocalDifferenceReconstruction(Rule):
    """R = amp on noise at x + null on independent noise at y. Local.

    With noises xi (of the shape of x) and eta (of the shape of y), both white and of one standard
    deviation s: R = coefficient * (-(1/n) <op(xi; W), op(xi; B)> + 1/(2n) |opT(eta; B)|^2). The
    mean of its gradient is coefficient * s^2 * counts * (B - W), with the positions at which each
    tap meets the input in `counts`: B learns W itself, whatever the network's activity is.

    Source: the local difference reconstruction loss of Ernoult et al. 2022 (arXiv:2201.13415), on a
    layer that is linear.

    Args:
        coefficient: Of both terms, a number > 0. Default 1e-3.
        stddev: Standard deviation s of both noises, > 0. Default 1.

    Raises:
        UserError: A value that is not a positive finite number.
    """

    feedback_optimizer = ("adam", 1e-3)
    noise = "per_replica"

    def __init__(self, coefficient: float = 1e-3, stddev: float = 1.0):
        self.coefficient = checks.number("coefficient", coefficient, above=0)
        self.stddev = checks.number("stddev", stddev, above=0)

    def loss(self, state: LayerState) -> tf.Tensor:
        """See `Rule.loss`."""
        connection, x, y = state.connection, state.x, state.y
        # Noise is a function of seed and step: the two need seeds of their own.
        other = dataclasses.replace(state, seed=derive(state.seed, "eta"))
        dtype = summed_in(x.dtype)
        xi = tf.ensure_shape(self.stddev * state.noise(tf.shape(x), dtype), x.shape)
        eta = tf.ensure_shape(self.stddev * other.noise(tf.shape(y), dtype), y.shape)
        w = tf.stop_gradient(state.kernel)
        projection = connection.op(xi, tf.cast(w, dtype))

        def both(b):
            seen = Seen(connection, xi, projection, w, b)
            amp = value_and_terms({"amp": self.coefficient}, seen)
            null = value_and_terms({"null": self.coefficient}, dataclasses.replace(seen, y=eta))
            return amp[0] + null[0], amp[1] + null[1]

        return descending(both, state.feedback_kernel)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"coefficient": self.coefficient, "stddev": self.stddev}
