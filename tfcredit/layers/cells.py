"""Recurrent cells of two feedback kernels: of what comes in, and of what comes back."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfcredit import rules
from tfcredit.connections import Connection, DenseConnection, GatedConnection
from tfcredit.errors import UserError
from tfcredit.layers.activity import add_bias
from tfcredit.layers.composite import CompositeLayer
from tfcredit.layers.lent_kernel import LentKernel, RecurrentKernel
from tfcredit.layers.sequences import Multiply, Recurrence, masked
from tfcredit.seeding import derive


class RecurrentComposite(CompositeLayer):
    """Mixin of Keras' recurrent cells and layers; stands before the Keras class in the bases.

    `feedback_initializer` and `seed` are as in `CompositeLayer`: of both feedback kernels.

    Args:
        *args: Positional arguments of the Keras class.
        rule: The rule of the input kernel, through which errors travel down: anything that
            `tfcredit.rules.get` takes. Default `"backprop"`.
        recurrent_rule: That of the recurrent kernel, through which they travel back in time.
            Default: `rule`.
        **kwargs: Keyword arguments of the Keras class.

    Attributes:
        rule: The `Rule` of the input kernel.
        recurrent_rule: That of the recurrent kernel.

    Raises:
        UserError: An unknown rule; one that sends no error down or, for the recurrent kernel, adds
            noise to the kernel's input or has factors in the place of B.
    """

    def __init__(self, *args: Any, rule: Any = "backprop", recurrent_rule: Any = None, **kwargs):
        rule = rules.get(rule)
        self.recurrent_rule = rule if recurrent_rule is None else rules.get(recurrent_rule)
        self.check_recurrent_rule(self.recurrent_rule)
        super().__init__(*args, rule=rule, **kwargs)

    @classmethod
    def check_recurrent_rule(cls, rule: rules.Rule) -> None:
        """Refuse a rule that recurrent kernels can't have.

        Args:
            rule: The rule.

        Raises:
            UserError: It sends no error back, adds noise to the kernel's input, or has factors in
                the place of a feedback kernel.
        """
        cls.check_rule(rule)
        if rule.feedback_rank is not None:
            raise UserError(
                f"the recurrent kernel of {cls.__name__} can't have rule {rule.name!r}, whose two "
                "thin factors stand in no loop: give another recurrent_rule=, such as "
                "'calibrated_mirror' or 'backprop', or the layer another rule."
            )
        if rule.perturbs:
            raise UserError(
                f"the recurrent kernel of {cls.__name__} can't have rule {rule.name!r}, whose "
                "noise is sized by all of a sequence's activity, of which one step knows the past "
                "only: give another recurrent_rule=, such as 'calibrated_mirror' or 'backprop', or "
                "the layer another rule."
            )

    @property
    def has_feedback(self) -> bool:
        """Whether errors travel through anything but both forward kernels."""
        both = self.rule, self.recurrent_rule
        return any(rule.trains_kernel and not rule.is_backprop for rule in both)

    def _keras_arguments(self, seed):
        return {"seed": seed}

    def _settings(self):
        return super()._settings() | {"recurrent_rule": rules.serialize(self.recurrent_rule)}


class FeedbackCell(RecurrentComposite):
    """Base of the cells: products with both kernels, along a sequence or in one step.

    A kernel of the rule `frozen` stays as it was drawn, and with the input kernel the bias.

    With feedback kernels a cell holds a `LentKernel` and a `RecurrentKernel`, as `input_product`
    and `recurrent_product`; the kernels are the cell's. A sequence is one call of both: the input
    kernel multiplies all steps at once, before the loop.

    Attributes:
        feedback_kernel: The variable B of the shape of `kernel`; `None` for backprop.
        recurrent_feedback_kernel: That of the shape of `recurrent_kernel`; `None` for backprop.
        names: What the seeds of the feedback kernels are derived from beside the cell's: the two
            directions of a bidirectional layer have one seed.
        beside_feedback: Whether another cell of a stack has feedback kernels.
    """

    gates = 1
    input_product = recurrent_product = None
    names: tuple[str, ...] = ()
    beside_feedback = False

    @property
    def feedback_kernel(self) -> keras.Variable | None:
        """B of the input kernel."""
        return None if self.input_product is None else self.input_product.feedback_kernel

    @property
    def recurrent_feedback_kernel(self) -> keras.Variable | None:
        """B of the recurrent kernel."""
        return None if self.recurrent_product is None else self.recurrent_product.feedback_kernel

    @property
    def trainable(self) -> bool:
        """See `keras.layers.Layer.trainable`; variables of the rule `frozen` never are."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool):
        keras.layers.Layer.trainable.fset(self, value)
        self._hold_frozen()

    def _hold_frozen(self):
        names = [] if self.rule.trains_kernel else ["kernel", "bias"]
        names += [] if self.recurrent_rule.trains_kernel else ["recurrent_kernel"]
        for variable in (getattr(self, name, None) for name in names):
            if variable is not None:  # before `build`, or without a bias
                variable.trainable = False

    def add_weight(self, *args, name=None, **kwargs):
        """See `keras.layers.Layer.add_weight`: in their own dtype, as `FeedbackLayer`'s are."""
        if self.has_feedback:
            kwargs["autocast"] = False
        return super().add_weight(*args, name=name, **kwargs)

    def build(self, input_shape):
        """Create the Keras cell's variables, and the feedback kernels where rules have some."""
        super().build(input_shape)
        self._hold_frozen()
        if not self.has_feedback and not self.beside_feedback:
            return
        self._check_activations()
        self.input_product = LentKernel(
            self.kernel_initializer,
            self._connection(self._drops_by_gate and self.dropout > 0),
            **self._product("kernel", self.rule),
        )
        self.recurrent_product = RecurrentKernel(
            self.recurrent_initializer,
            self._connection(self._inputs_by_gate),
            **self._product("recurrent_kernel", self.recurrent_rule),
        )
        self.input_product.lend(self.kernel)
        self.recurrent_product.lend(self.recurrent_kernel)

    def _check_activations(self) -> None:
        """Refuse activations that learn, to whose weights the loop would bring no gradient."""
        for activation in (self.activation, getattr(self, "recurrent_activation", None)):
            if not isinstance(activation, keras.layers.Layer):
                continue
            if not activation.built:
                activation.build((None, self.units))
            if activation.weights:
                raise UserError(
                    f"cell {self.name!r} has the activation {activation.name!r} "
                    f"({type(activation).__name__}), whose weights would not learn in a loop of "
                    "feedback kernels: take one without weights, or rule='backprop'."
                )

    def _product(self, name: str, rule: rules.Rule) -> dict:
        """Arguments of a product."""
        own = {"rule": rule, "seed": derive(self.seed, name, *self.names)}
        own["feedback_initializer"] = keras.initializers.serialize(self.feedback_initializer)
        return own | {"name": name, "dtype": self.dtype_policy, "trainable": self.trainable}

    def _connection(self, by_gate: bool) -> Connection:
        return GatedConnection(self.gates) if by_gate else DenseConnection()

    @property
    def _drops_by_gate(self) -> bool:
        """Whether each gate has dropout of its own."""
        return getattr(self, "implementation", 2) == 1

    @property
    def _inputs_by_gate(self) -> bool:
        """Whether gates have inputs of their own from the step before."""
        return self._drops_by_gate and self.recurrent_dropout > 0

    def run(
        self,
        sequences: tf.Tensor,
        states: Sequence[tf.Tensor],
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        unroll: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The cell along a sequence.

        Args:
            sequences: `[n, steps, features]`.
            states: The cell's states before the first step, `[n, units]` each.
            mask: Boolean `[n, steps]`; a step where it is False leaves the states as they are, and
                is no sample of the rules. `None` for none.
            training: Whether it is a training call.
            unroll: Whether the loop is one of Python's.

        Returns:
            The first state after each step, `[n, steps, units]`, and all states after the last one.
        """
        sequences = tf.cast(sequences, self.compute_dtype)
        states = [tf.cast(state, self.compute_dtype) for state in states]
        if mask is not None:
            sequences = masked(sequences, mask)
        inputs = self._inputs(self._projected(sequences, training))
        dropout = self._recurrent_dropout(states[0], training)

        def step(inputs, states, multiply):
            return self._advanced(inputs, states, multiply, dropout)

        recurrence = Recurrence(self.recurrent_product, training, self._parts)
        after, last, more = recurrence.run(
            step, inputs, states, self._more(states[0]), mask, unroll
        )
        before = tf.concat([states[0][:, None], after[:, :-1]], 1)
        x = self._recurrent_inputs(before, *more, dropout=_over_time(dropout))
        x = x if mask is None else masked(x, mask)
        self.recurrent_product(x, recurrence=recurrence, training=training)
        return after, last

    def call(self, inputs, states, training=False):
        """One step, which is a sequence of its own for the rules."""
        if self.recurrent_product is None:
            return super().call(inputs, states, training=training)
        self._check_step(training)
        several = isinstance(states, list | tuple)
        outputs, after = self.run(
            inputs[:, None], states if several else [states], training=training, unroll=True
        )
        return outputs[:, 0], after if several else after[0]

    def _check_step(self, training):
        products = self.input_product, self.recurrent_product
        for product in products if training else ():
            adds_losses = product.learns_in_training or product.rule.feedback_rank is not None
            if not product.rule.is_backprop and adds_losses:
                raise UserError(
                    f"cell {self.name!r} has rule {product.rule.name!r}, which learns once in a "
                    "sequence and not in each step: give the cell to tfcredit.layers.RNN, not to "
                    "keras.layers.RNN or a loop of your own, or take rule 'feedback_alignment'."
                )

    def _projected(self, sequences: tf.Tensor, training) -> tf.Tensor:
        """The products of all steps with the input kernel, with bias."""
        x, mask = sequences, self.get_dropout_mask(sequences[:, 0])
        mask = self._mask(mask, self.dropout, training)
        if isinstance(self.input_product.connection, GatedConnection):
            x = tf.repeat(x[..., None, :], self.gates, -2)
        y = self.input_product(x if mask is None else x * mask[:, None], training=training)
        bias = self._input_bias()
        return y if bias is None else add_bias(y, bias)

    def _recurrent_dropout(self, state: tf.Tensor, training) -> tf.Tensor | None:
        mask = self.get_recurrent_dropout_mask(state)
        return self._mask(mask, self.recurrent_dropout, training)

    def _mask(self, mask, rate: float, training) -> tf.Tensor | None:
        """Dropout's factors, `[n, features]` or, by gate, `[n, gates, features]`."""
        if not training or mask is None or (rate == 1.0 and self.gates > 1):
            return None  # Keras' gates take a rate of 1 for none.
        return tf.stack(mask, 1) if isinstance(mask, list | tuple) else mask

    def _gated(self, state: tf.Tensor, dropout: tf.Tensor | None) -> tf.Tensor:
        """A state as the recurrent kernel sees it, `[n, units]` or `[n, gates, units]`."""
        if self._drops_by_gate and self.recurrent_dropout > 0:
            state = tf.repeat(state[..., None, :], self.gates, -2)
        return state if dropout is None else state * dropout

    def _input_bias(self) -> tf.Tensor | None:
        return None if self.bias is None else tf.convert_to_tensor(self.bias)

    _parts: Sequence[slice] = (slice(None),)

    def _inputs(self, projected: tf.Tensor) -> list[tf.Tensor]:
        """What goes into the steps; the last is added to the recurrent products."""
        return [projected]

    def _more(self, state: tf.Tensor) -> list[tf.Tensor]:
        """What a step gives beside its states, before the first one."""
        return []

    def _recurrent_inputs(self, before: tf.Tensor, *more, dropout) -> tf.Tensor:
        """The inputs of the recurrent products of all steps, from the state before each."""
        return self._gated(before, dropout)

    def _advanced(
        self,
        inputs: Sequence[tf.Tensor],
        states: Sequence[tf.Tensor],
        multiply: Multiply,
        dropout: tf.Tensor | None,
    ) -> list[tf.Tensor]:
        """The states after a step, and what else it gives."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("tfcredit")
class SimpleRNNCell(FeedbackCell, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.SimpleRNNCell`, and `rule`, `recurrent_rule`,
    `feedback_initializer` and `seed` as `tfcredit.layers.SimpleRNN` describes them. It belongs into
    a `tfcredit.layers.RNN`; in `keras.layers.RNN` it takes rules alone that do nothing in training
    calls but route errors.

    Example:
        >>> cell = SimpleRNNCell(4, rule="info_alignment")
        >>> cell.build((None, 3))
        >>> tuple(cell.feedback_kernel.shape), tuple(cell.recurrent_feedback_kernel.shape)
        ((3, 4), (4, 4))
    """

    def _advanced(self, inputs, states, multiply, dropout):
        (projected,), (h,) = inputs, states
        z = projected + multiply(self._gated(h, dropout))
        return [z if self.activation is None else self.activation(z)]


@keras.saving.register_keras_serializable("tfcredit")
class LSTMCell(FeedbackCell, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.LSTMCell`, and `rule`, `recurrent_rule`,
    `feedback_initializer` and `seed` as `tfcredit.layers.SimpleRNN` describes them. It belongs into
    a `tfcredit.layers.RNN`; in `keras.layers.RNN` it takes rules alone that do nothing in training
    calls but route errors.

    Example:
        >>> cell = LSTMCell(4, rule="info_alignment")
        >>> cell.build((None, 3))
        >>> tuple(cell.feedback_kernel.shape), tuple(cell.recurrent_feedback_kernel.shape)
        ((3, 16), (4, 16))
    """

    gates = 4

    def _advanced(self, inputs, states, multiply, dropout):
        (projected,), (h, c) = inputs, states
        z = projected + multiply(self._gated(h, dropout))
        i, f, g, o = tf.split(z, 4, -1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        return [self.recurrent_activation(o) * self.activation(c), c]


@keras.saving.register_keras_serializable("tfcredit")
class GRUCell(FeedbackCell, keras.layers.GRUCell):
    """`keras.layers.GRUCell` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.GRUCell`, and `rule`, `recurrent_rule`,
    `feedback_initializer` and `seed` as `tfcredit.layers.SimpleRNN` describes them. It belongs into
    a `tfcredit.layers.RNN`; in `keras.layers.RNN` it takes rules alone that do nothing in training
    calls but route errors.

    Example:
        >>> cell = GRUCell(4, rule="info_alignment")
        >>> cell.build((None, 3))
        >>> tuple(cell.feedback_kernel.shape), tuple(cell.recurrent_feedback_kernel.shape)
        ((3, 12), (4, 12))
    """

    gates = 3

    @property
    def _inputs_by_gate(self):
        # Before the product the reset gate acts on what the candidate sees alone.
        return super()._inputs_by_gate or not self.reset_after

    @property
    def _parts(self):
        if self.reset_after:
            return (slice(None),)
        return slice(0, 2 * self.units), slice(2 * self.units, None)

    def _input_bias(self):
        bias = super()._input_bias()
        return bias[0] if bias is not None and self.reset_after else bias

    def _inputs(self, projected):
        if not self.reset_after:
            return [projected]
        # The reset gate scales the candidate's recurrent product, so that its error is another.
        recurrent = tf.zeros_like(projected)
        if self.bias is not None:
            recurrent = add_bias(recurrent, tf.convert_to_tensor(self.bias)[1])
        return [projected, recurrent]

    def _more(self, state):
        return [] if self.reset_after else [tf.zeros_like(state)]

    def _recurrent_inputs(self, before, *more, dropout):
        x = self._gated(before, dropout)
        if self.reset_after:
            return x
        gates = [x, x] if x.shape.rank == before.shape.rank else tf.unstack(x, axis=-2)[:2]
        return tf.stack([*gates, *more], -2)

    def _advanced(self, inputs, states, multiply, dropout):
        h, x = states[0], self._gated(states[0], dropout)
        z, r, candidate = tf.split(inputs[0], 3, -1)
        if self.reset_after:
            by_z, by_r, by_candidate = tf.split(multiply(x) + inputs[1], 3, -1)
            z, r = self.recurrent_activation(z + by_z), self.recurrent_activation(r + by_r)
            candidate, more = self.activation(candidate + r * by_candidate), []
        else:
            by_gate = x.shape.rank == 3
            both = multiply(x[:, :2] if by_gate else x, 0)
            by_z, by_r = tf.split(both, 2, -1)
            z, r = self.recurrent_activation(z + by_z), self.recurrent_activation(r + by_r)
            more = [r * (x[:, 2] if by_gate else x)]
            candidate = self.activation(candidate + multiply(more[0], 1))
        return [z * h + (1 - z) * candidate, *more]


def _over_time(factors: tf.Tensor | None) -> tf.Tensor | None:
    return None if factors is None else factors[:, None]
