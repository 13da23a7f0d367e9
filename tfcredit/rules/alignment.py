"""Rules that are a weighted sum of primitives: the user's own, and the base of the named ones."""

import dataclasses
from collections.abc import Mapping

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tfcredit import checks
from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.primitives import PRIMITIVES, Seen, value_and_terms
from tfcredit.primitives.seen import add, scalar, summed_in, times
from tfcredit.rules.base import Rule
from tfcredit.rules.inputs import AlignmentInputs
from tfcredit.rules.objective import (
    AlteredSeen,
    alter_input,
    alter_output,
    batch_center,
    objective,
)
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState
from tfcredit.seeding import derive

Coefficient = float | LearningRateSchedule


@register("alignment")
class AlignmentRule(Rule):
    """R = rate * (sum of coefficient * primitive); errors travel through B, which descends R.

    Args:
        coefficients: Primitive name (`amp`, `decay`, `null`, `sparse`, `self`, `error`) -> number
            >= 0, or a schedule of the step (`keras.optimizers.schedules.LearningRateSchedule`; the
            step is the layer's count of training calls). `0.002 * amp + 0.001 * null` is one too.
        inputs: What R sees: an `AlignmentInputs`, a mapping of its options, or `None` for the
            layer's activity as it is.
        rate: Factor on all of R (not on `error`), a number >= 0 or a schedule.

    Raises:
        UserError: An unknown primitive, or a coefficient that is negative or not finite.

    Example:
        >>> from tfcredit.primitives import amp, null
        >>> AlignmentRule(0.002 * amp + 0.001 * null).coefficients
        {'amp': 0.002, 'null': 0.001}
    """

    feedback_optimizer = ("adam", 1e-3)
    linear_in_error = True

    def __init__(
        self,
        coefficients: Mapping[str, Coefficient],
        *,
        inputs: AlignmentInputs | Mapping | None = None,
        rate: Coefficient = 1.0,
    ):
        self.coefficients = {
            key.rstrip("_"): _coefficient(key, value) for key, value in coefficients.items()
        }
        for key in self.coefficients:
            if key not in PRIMITIVES:
                raise UserError(
                    f"coefficient {key!r} is unknown{did_you_mean(key, PRIMITIVES)} Known "
                    f"primitives: {', '.join(PRIMITIVES)}."
                )
        self.inputs = AlignmentInputs.get(inputs)
        self.rate = _coefficient("rate", rate)

    @property
    def learns(self) -> bool:
        """See `Rule.learns`."""
        return bool(self.coefficients)

    @property
    def noise(self) -> str | None:
        """See `Rule.noise`: R's own input, and the part of the batch that it sees, are random."""
        return "per_replica" if self.inputs.noise is not None or self._sees_a_part else None

    @property
    def counts_steps(self) -> bool:
        """See `Rule.counts_steps`."""
        scheduled = any(callable(value) for value in (*self.coefficients.values(), self.rate))
        return scheduled or super().counts_steps

    @property
    def reads_activity(self) -> bool:
        """True if R depends on the layer's input or pre-activation, so that it takes products."""
        return any(PRIMITIVES[name].reads & {"x", "y"} for name in self._terms)

    @property
    def _sees_a_part(self) -> bool:
        return self.inputs.fraction < 1 and self.reads_activity

    def gradient(self, state: LayerState, dy, dw):
        """See `Rule.gradient`: `error`."""
        if "error" not in self.coefficients:
            return None
        coefficient = _at(self.coefficients["error"], state.step)
        return scalar(coefficient, dw.dtype) * dw

    def loss(self, state: LayerState):
        """See `Rule.loss`."""
        if not self._terms:
            return None
        coefficients = {name: _at(value, state.step) for name, value in self._terms.items()}
        rate, seen = _at(self.rate, state.step), self._seen(state)
        if isinstance(seen, AlteredSeen):
            return rate * objective(coefficients, seen)
        return descending(
            lambda b: value_and_terms(coefficients, dataclasses.replace(seen, b=b)), seen.b, rate
        )

    def primitive_values(self, state: LayerState) -> dict[str, tf.Tensor]:
        """The value of each primitive of the sum (without coefficient), for monitoring."""
        seen = self._seen(state)
        return {name: PRIMITIVES[name].value(seen) for name in self._terms}

    @property
    def _terms(self) -> dict[str, Coefficient]:
        """The primitives whose sum is R: all but `error`."""
        return {name: value for name, value in self.coefficients.items() if name != "error"}

    def _seen(self, state: LayerState) -> Seen:
        """The `Seen` of a layer; an `AlteredSeen` where options leave R no closed form."""
        options = self.inputs
        state = self._shown(state)
        bias = None if state.bias is None else tf.stop_gradient(state.bias)
        x, product = self._activity(state)
        y = product
        centred = batch_center(x) if options.batch_center_backward_input else None
        own = state.alignment_activation or state.activation
        activation = keras.activations.get(options.activation or own)
        if options.use_bias_forward and bias is not None:
            y = y + bias
        if options.activation_forward:
            y = activation(y)
        w, b = state.kernel, state.feedback_kernel
        apart = options.alters_forward_output  # of `amp` only
        if options.alters_backward or (apart and "null" in self.coefficients):
            return AlteredSeen(
                state.connection,
                x,
                y,
                w if options.update_forward else tf.stop_gradient(w),
                b,
                inputs=options,
                bias=bias if options.use_bias_backward else None,
                activation=activation if options.activation_backward else None,
                x_backward=centred,
            )
        y_amp = alter_output(y, options, "forward") if apart else None
        known = state.y_is_product and y is product and centred is None and y_amp is None
        x = x if centred is None else centred
        return Seen(state.connection, x, y, w, b, y_is_product=known, y_amp=y_amp)

    def _shown(self, state: LayerState) -> LayerState:
        """The state with the part of the batch and in the precision that R sees."""
        if self._sees_a_part:
            state = _part(state, self.inputs.fraction)
        dtype = tf.as_dtype(self.inputs.precision or summed_in(state.x.dtype))
        if dtype == state.x.dtype:
            return state
        seen = {name: getattr(state, name) for name in ("x", "y", "bias")}
        cast = {name: tf.cast(each, dtype) for name, each in seen.items() if each is not None}
        return dataclasses.replace(state, **cast)

    def _activity(self, state: LayerState) -> tuple[tf.Tensor, tf.Tensor]:
        """The input that R sees, and op(x; W) for it where a primitive reads that."""
        options, x, y = self.inputs, state.x, state.y
        if options.noise is not None:
            x = options.stddev * state.noise(tf.shape(x), x.dtype, options.noise)
            x = tf.ensure_shape(x, state.x.shape)
        x = alter_input(x, options)
        if x is state.x and not options.update_forward:
            return x, y
        if not self.reads_activity:
            return x, y
        kernel = tf.cast(state.kernel, x.dtype)
        if not options.update_forward:
            kernel = tf.stop_gradient(kernel)
        return x, state.connection.op(x, kernel)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        config = {"coefficients": {k: _plain(v) for k, v in self.coefficients.items()}}
        return config | self._common_config()

    def _common_config(self) -> dict:
        config = {}
        if self.inputs != AlignmentInputs():
            config["inputs"] = self.inputs.get_config()
        if self.rate != 1.0:
            config["rate"] = _plain(self.rate)
        return config


class NamedAlignmentRule(AlignmentRule):
    """An `AlignmentRule` whose primitives are fixed and whose coefficients have defaults."""

    defaults: Mapping[str, float] = {}

    def __init__(
        self,
        *,
        inputs: AlignmentInputs | Mapping | None = None,
        rate: Coefficient = 1.0,
        **coefficients: Coefficient,
    ):
        given = {key.rstrip("_"): value for key, value in coefficients.items()}
        for key in given:
            if key not in self.defaults:
                known = list(self.defaults)
                raise UserError(
                    f"{self.name} has no coefficient {key!r}{did_you_mean(key, known)} It takes "
                    f"{', '.join(known) or 'none'}; AlignmentRule takes any sum."
                )
        super().__init__({**self.defaults, **given}, inputs=inputs, rate=rate)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        coefficients = {
            "self_" if key == "self" else key: _plain(value)
            for key, value in self.coefficients.items()
        }
        return coefficients | self._common_config()


def descending(value_and_terms_of, variable: tf.Tensor, rate: float | tf.Tensor = 1.0) -> tf.Tensor:
    """`rate` times a scalar whose gradient in `variable` is the sum of terms beside its value."""

    @tf.custom_gradient
    def attach(b):
        value, terms = value_and_terms_of(tf.stop_gradient(b))

        def gradient(upstream):
            # A product that nothing has needed yet waits until the gradient is asked for.
            with tf.control_dependencies([upstream]):
                return add(terms, times(rate, upstream))

        # An eager tape that watches tensors would see through the closure, to W in `self`.
        return tf.stop_gradient(times(rate, value)), gradient

    return attach(variable)


def _part(state: LayerState, fraction: float) -> LayerState:
    """A random part of the batch, the same samples of x and y, each as likely as any other."""
    # Noise is a function of seed and step too: this draw needs a seed of its own.
    other = dataclasses.replace(state, seed=derive(state.seed, "part"))
    n = state.x.shape[0]
    if n is None:
        n = tf.shape(state.x)[0]
        share = tf.round(fraction * tf.cast(n, tf.float32))
        m = tf.minimum(tf.maximum(1, tf.cast(share, tf.int32)), n)
        bound = tf.maximum(n, 1)
    else:
        m, bound = min(max(1, round(fraction * n)), n), max(n, 1)
    rows = (other.whole_number(bound) + tf.range(m)) % bound  # A replica may have no samples.
    # Not a slice: XLA has to know where one begins, and compiled each step anew.
    x, y = (tf.gather(activity, rows) for activity in (state.x, state.y))
    return dataclasses.replace(state, x=x, y=y)


def _coefficient(name: str, value):
    """A number >= 0 or a schedule, checked."""
    if isinstance(value, Mapping):
        value = keras.optimizers.schedules.deserialize(value)
    if isinstance(value, LearningRateSchedule):
        return value
    try:
        return checks.number(name, value, at_least=0)
    except UserError:
        raise UserError(
            f"coefficient {name}={value!r} must be a finite number >= 0 or a "
            "keras.optimizers.schedules.LearningRateSchedule."
        ) from None


def _at(coefficient, step):
    return coefficient(step) if callable(coefficient) else coefficient


def _plain(coefficient):
    if callable(coefficient):
        return keras.optimizers.schedules.serialize(coefficient)
    return coefficient
