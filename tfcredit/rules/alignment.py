"""Rules that are a weighted sum of primitives: the user's own, and the base of the named ones."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tfcredit.errors import UserError
from tfcredit.primitives import PRIMITIVES, add, times, value_and_terms
from tfcredit.rules.base import LayerState, Rule
from tfcredit.rules.inputs import AlignmentInputs
from tfcredit.rules.objective import alter_input, alter_output, batch_center, objective
from tfcredit.rules.registry import closest, register
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
                    f"coefficient {key!r} is unknown{closest(key, list(PRIMITIVES))} Known "
                    f"primitives: {', '.join(PRIMITIVES)}."
                )
        self.inputs = AlignmentInputs.get(inputs)
        self.rate = _coefficient("rate", rate)

    @property
    def learns(self) -> bool:
        """See `Rule.learns`."""
        return bool(self.coefficients)

    @property
    def counts_steps(self) -> bool:
        """See `Rule.counts_steps`."""
        scheduled = [*self.coefficients.values(), self.rate]
        return self.draws_for_each_replica or any(callable(value) for value in scheduled)

    @property
    def draws_for_each_replica(self) -> bool:
        """See `Rule.draws_for_each_replica`."""
        return self.inputs.noise is not None or self._sees_a_part

    @property
    def reads_activity(self) -> bool:
        """Whether R depends on the layer's input or pre-activation, so that it takes products."""
        names = [name for name in self.coefficients if name != "error"]
        return any(PRIMITIVES[name].reads & {"x", "y"} for name in names)

    @property
    def _sees_a_part(self) -> bool:
        return self.inputs.fraction < 1 and self.reads_activity

    def error_coefficient(self, step):
        """See `Rule.error_coefficient`."""
        coefficient = self.coefficients.get("error")
        return coefficient(step) if callable(coefficient) else coefficient

    def loss(self, state: LayerState):
        """See `Rule.loss`."""
        names = [name for name in self.coefficients if name != "error"]
        if not names:
            return None
        coefficients = {name: _at(self.coefficients[name], state.step) for name in names}
        return self._regularisation(state, coefficients, _at(self.rate, state.step))

    def primitive_values(self, state: LayerState) -> dict[str, tf.Tensor]:
        """The value of each primitive of the sum (without coefficient), for monitoring."""
        names = [name for name in self.coefficients if name != "error"]
        return {name: self._regularisation(state, {name: 1.0}) for name in names}

    def _regularisation(self, state: LayerState, coefficients, rate=1.0) -> tf.Tensor:
        options = self.inputs
        state = self._seen(state)
        bias = None if state.bias is None else tf.stop_gradient(state.bias)
        x, product = self._activity(state, coefficients)
        y = product
        centred = batch_center(x) if options.batch_center_backward_input else None
        own = options.activation is None
        activation = state.activation if own else keras.activations.get(options.activation)
        if options.use_bias_forward and bias is not None:
            y = y + bias
        if options.activation_forward:
            y = activation(y)
        if options.alters_backward or (options.alters_forward_output and "null" in coefficients):
            kernel = state.kernel
            return rate * objective(
                state.connection,
                coefficients,
                options,
                x,
                y,
                kernel if options.update_forward else tf.stop_gradient(kernel),
                state.feedback_kernel,
                bias if options.use_bias_backward else None,
                activation if options.activation_backward else None,
                centred,
            )
        y_amp = alter_output(y, options, "forward") if options.alters_forward_output else None
        y_is_product = state.y_is_product and y is product and centred is None and y_amp is None
        return descending(
            lambda b: value_and_terms(
                state.connection,
                coefficients,
                x,
                y,
                state.kernel,
                b,
                centred,
                y_amp,
                y_is_product,
            ),
            state.feedback_kernel,
            rate,
        )

    def _seen(self, state: LayerState) -> LayerState:
        """The state with the part of the batch and in the precision that R sees."""
        if self._sees_a_part:
            state = _part(state, self.inputs.fraction)
        if self.inputs.precision is None:
            return state
        seen = {name: getattr(state, name) for name in ("x", "y", "bias")}
        dtype = self.inputs.precision
        cast = {name: tf.cast(each, dtype) for name, each in seen.items() if each is not None}
        return dataclasses.replace(state, **cast)

    def _activity(self, state: LayerState, coefficients):
        """The input that R sees, and op(x; W) for it where a primitive reads that."""
        options, x, y = self.inputs, state.x, state.y
        if options.noise is not None:
            x = options.stddev * state.noise(tf.shape(x), x.dtype, options.noise)
            x = tf.ensure_shape(x, state.x.shape)
        x = alter_input(x, options)
        if x is state.x and not options.update_forward:
            return x, y
        if not {"amp", "null", "sparse"} & set(coefficients):
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
                    f"{self.name} has no coefficient {key!r}{closest(key, known)} It takes "
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
        # An eager tape that watches tensors would see through the closure, to W in `self`.
        return tf.stop_gradient(times(rate, value)), lambda upstream: add(
            terms, times(rate, upstream)
        )

    return attach(variable)


def _part(state: LayerState, fraction: float) -> LayerState:
    """A random part of the batch, the same samples of x and y, each as likely as any other."""
    # Noise is a function of seed and step too: this draw needs a seed of its own.
    other = dataclasses.replace(state, seed=derive(state.seed, "part"))
    n = state.x.shape[0]
    if n is None:
        n = tf.shape(state.x)[0]
        share = tf.round(fraction * tf.cast(n, tf.float32))
        m = tf.maximum(1, tf.cast(share, tf.int32))
    else:
        m = max(1, round(fraction * n))
    rows = (other.whole_number(n) + tf.range(m)) % n
    # Not a slice: XLA has to know where one begins, and compiled each step anew.
    x, y = (tf.gather(activity, rows) for activity in (state.x, state.y))
    return dataclasses.replace(state, x=x, y=y)


def _coefficient(name: str, value):
    """A number >= 0 or a schedule, checked."""
    if isinstance(value, Mapping):
        value = keras.optimizers.schedules.deserialize(value)
    if isinstance(value, LearningRateSchedule):
        return value
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value < 0:
        raise UserError(
            f"coefficient {name}={value!r} must be a finite number >= 0 or a "
            "keras.optimizers.schedules.LearningRateSchedule."
        )
    return float(value)


def _at(coefficient, step):
    return coefficient(step) if callable(coefficient) else coefficient


def _plain(coefficient):
    if callable(coefficient):
        return keras.optimizers.schedules.serialize(coefficient)
    return coefficient
