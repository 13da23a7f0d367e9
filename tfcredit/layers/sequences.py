"""The way of a sequence through a recurrent kernel, forward and back in time."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfcredit.connections import Connection, DenseConnection, GatedConnection
from tfcredit.errors import UserError
from tfcredit.layers.feedback import Call
from tfcredit.layers.inner_graphs import refuse_vectorized_map
from tfcredit.layers.lent_kernel import RecurrentKernel
from tfcredit.layers.recomputation import block_run, recording
from tfcredit.layers.routing import carry_error, carrying, kernel_gradients

Multiply = Callable[..., tf.Tensor]
"""The product of `x` `[n, units]` or `[n, gates, units]` and, by number, a part of the kernel."""
Step = Callable[[list[tf.Tensor], list[tf.Tensor], Multiply], list[tf.Tensor]]
"""(inputs, states, multiply) -> states, and what else the step gives, `[n, ...]` each."""


class Recurrence:
    """A sequence's way through a recurrent kernel, whose variables are read once.

    `run` goes through all steps, and `RecurrentKernel.call` then lets the rule do its work on
    what they have shown. Errors go back in time through the B that this leaves. What they teach is
    one product over all steps.

    TensorFlow's own gradient of a loop would be made before the loop's outputs are known if a tape
    is persistent, and so before the rule has renewed B. Here the gradient of a loop is a loop of
    its own, made when errors arrive. It computes each step again from its products, which saves
    memory.

    Args:
        layer: The layer of the kernel.
        training: Whether it is a training call.
        parts: The columns that a step multiplies by at once.
    """

    def __init__(
        self,
        layer: RecurrentKernel,
        training: bool | None,
        parts: Sequence[slice] = (slice(None),),
    ):
        if training:
            refuse_vectorized_map(layer.name)
        self._layer, self._kept, self._parts = layer, None, parts
        training = bool(training) and layer.trainable and layer.rule.has_feedback_kernel
        self._run = run = block_run() if layer.rule.has_feedback_kernel else None
        if run is not None and run.repeated is not None:
            self._kept = run.recall(layer)
            training = self._kept.training
        elif run is not None and training:
            layer._check_recomputation(run)
        with recording(run):
            self._reading = layer._read()
        if self._kept is not None:
            self._reading = self._reading.with_values_of(self._kept.reading)
        self._training = training
        self._kernel = tf.cast(self._reading.kernel, layer.compute_dtype)
        self._mask: tf.Tensor | None = None
        self._errors: tf.Tensor | None = None
        self._products: tf.Tensor | None = None
        self._learned: tuple[tf.Tensor, tf.Tensor, Any] | None = None

    def run(
        self,
        step: Step,
        inputs: Sequence[tf.Tensor],
        states: Sequence[tf.Tensor],
        more: Sequence[tf.Tensor] = (),
        mask: tf.Tensor | None = None,
        unroll: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """All steps, one after the other.

        Args:
            step: One step. It uses no variables and gives its states the shapes that they had.
            inputs: What goes into the steps, `[n, steps, ...]` each. The last of them is added to
                the products, so that it has their error.
            states: The states before the first step, `[n, units]` each.
            more: Of the shape of what a step gives beside its states.
            mask: Boolean `[n, steps]`: False where a step is to leave the states as they are.
            unroll: Whether the loops are Python's.

        Returns:
            The first state after each step `[n, steps, units]`; all states after the last step;
            what else the steps have given, `[n, steps, ...]`, to which no error goes.
        """
        self._errors, self._mask = inputs[-1], mask
        loop = _Loop(step, self._parts, mask, unroll)
        unscaled = self._training and self._layer.rule.scales_errors
        count, seen = len(inputs), []

        @tf.custom_gradient
        def route(*given):
            *values, kernel, feedback_kernel = given
            inputs, states = values[:count], values[count:]
            kernels = self._split(kernel)
            made = loop.forward(*_constant((inputs, states, more)), kernels)
            seen.extend((made.more, made.products))

            def gradient(*errors):
                scale = errors[-1] if unscaled else None
                x, carrier, teach = self._learned
                through = carrying(kernel, carrier, kernel.dtype)
                d_inputs, d_states, dy = loop.backward(
                    made, errors[0], errors[1 : len(states)], self._split(through)
                )
                dw, db = kernel_gradients(
                    self._layer.connection, x, dy, kernel, feedback_kernel, carrier, teach, scale
                )
                return [*_underivable([*d_inputs, *d_states, dw], [*values, kernel]), db]

            outputs = made.states[0], *(state[-1] for state in made.states[1:])
            return (*outputs, tf.zeros([])) if unscaled else outputs, gradient

        timed = [_time_first(each) for each in inputs]
        first, *last = tf.nest.flatten(
            route(*timed, *states, self._kernel, self._reading.feedback_kernel)
        )
        if unscaled:
            self._layer.add_alignment_loss(last.pop())
        more, products = seen
        self._products = _time_first(tf.concat(products, -1))
        return _time_first(first), [first[-1], *last], [_time_first(each) for each in more]

    def end(self, x: tf.Tensor) -> tf.Tensor:
        """Let the rule do its work.

        Args:
            x: The inputs of all products, `[n, steps, units]` or `[n, steps, gates, units]`; zeros
                where a mask leaves steps out.

        Returns:
            What has the error of all products, `[n, steps, columns]`.
        """
        layer, kept, state = self._layer, self._kept, None
        x = tf.stop_gradient(x)
        carrier = self._reading.feedback_kernel if kept is None else kept.carrier
        learns = self._training and layer.learns_in_training
        if layer.rule.has_feedback_kernel and (learns or layer._teaches_always):
            state = dataclasses.replace(
                layer._make_state(self._reading, x),
                y=self._seen_products(),
                y_is_product=True,
            )
        if learns and kept is None:
            with recording(self._run):
                carrier = layer._learn(state)
        if self._run is not None and kept is None:
            self._run.keep(layer, Call(self._reading, carrier, self._training))
        self._learned = x, carrier, None if state is None else layer._teacher(state)
        return self._errors

    def _seen_products(self) -> tf.Tensor:
        """The products of all steps; zeros, which teach nothing, where a mask leaves them out."""
        products = self._products
        products = products if self._mask is None else masked(products, self._mask)
        return tf.stop_gradient(products)

    def _split(self, kernel: tf.Tensor) -> list[tf.Tensor]:
        """The parts of a kernel, so that no step has to take them."""
        kernel = tf.stop_gradient(kernel)
        whole = tuple(self._parts) == (slice(None),)
        return [kernel] if whole else [kernel[:, part] for part in self._parts]


class _Made:
    """What a loop has made, `[steps, n, ...]` each: states before and after each step, products."""

    def __init__(self, inputs, first, found, counts):
        states, more, _ = counts
        self.inputs, self.states = inputs, found[:states]
        self.more, self.products = found[states : states + more], found[states + more :]
        self.before = [
            tf.concat([one[None], after[:-1]], 0)
            for one, after in zip(first, self.states, strict=True)
        ]


class _Loop:
    """Steps one after the other, and their errors the other way round."""

    def __init__(self, step: Step, parts: Sequence[slice], mask, unroll: bool):
        self._step, self._parts, self._unroll = step, parts, unroll
        self._keep = [] if mask is None else [_time_first(mask)[..., None]]

    def forward(self, inputs, states, more, kernels) -> _Made:
        """All steps."""
        shape = tf.shape(states[0])[:-1]
        products = [
            tf.zeros(tf.concat([shape, [kernel.shape[1]]], 0), kernel.dtype) for kernel in kernels
        ]
        counts = len(states), len(more), len(kernels)

        def advance(carried, given):
            made = []

            def multiply(x, part=0):
                made.append(_connection(x).op(x, kernels[part]))
                return made[-1]

            before = carried[: len(states)]
            after = self._step(given[: len(inputs)], before, multiply)
            for new, old in zip(after, carried, strict=False):
                new.set_shape(old.shape)
            kept = self._where_kept(given, after[: len(states)], before)
            return [*kept, *after[len(states) :], *made]

        found = self._scan(advance, [*inputs, *self._keep], [*states, *more, *products])
        return _Made(inputs, states, found, counts)

    def backward(
        self,
        made: _Made,
        errors: tf.Tensor,
        last_errors: Sequence[tf.Tensor],
        carriers: Sequence[tf.Tensor],
    ) -> tuple[Sequence[tf.Tensor], Sequence[tf.Tensor], tf.Tensor]:
        """The errors of inputs, of the states before the first step, and of all products.

        Args:
            made: What `forward` has made.
            errors: Of the first state after each step, `[steps, n, units]`.
            last_errors: Of the other states after the last step.
            carriers: The kernels that errors travel through.

        Returns:
            The first two in lists, the last as a tensor `[n, steps, columns]`.
        """
        inputs, states, products = len(made.inputs), len(made.before), len(made.products)

        def retreat(carried, given):
            error, *given = given
            given, keep = given[: inputs + states + products], given[inputs + states + products :]
            x, before, y = _cut(given, inputs, states)
            d_after = [carried[0] + error, *carried[1:states]]
            nothing = [tf.zeros_like(each) for each in d_after]
            with tf.GradientTape() as tape:
                tape.watch(given)

                def multiply(x, part=0):
                    return carry_error(_connection(x), x, y[part], carriers[part])

                after = self._step(x, before, multiply)[:states]
            found = tape.gradient(
                after,
                given,
                self._where_kept(keep, d_after, nothing),
                tf.UnconnectedGradients.ZERO,
            )
            d_x, d_before, dy = _cut(found, inputs, states)
            if keep:
                past = self._where_kept(keep, nothing, d_after)
                d_before = [tf.add(*pair) for pair in zip(d_before, past, strict=True)]
            return [*d_before, *d_x, *dy]

        given = [errors, *made.inputs, *made.before, *made.products, *self._keep]
        first = [tf.zeros_like(errors[0]), *last_errors]
        first += [tf.zeros_like(each[0]) for each in (*made.inputs, *made.products)]
        found = self._scan(retreat, given, first, reverse=True)
        d_before, d_inputs, dy = _cut(found, states, inputs)
        return d_inputs, [each[0] for each in d_before], _time_first(tf.concat(dy, -1))

    def _where_kept(self, given, new, old):
        if not self._keep:
            return new
        return [tf.where(given[-1], *pair) for pair in zip(new, old, strict=True)]

    def _scan(self, step, inputs, first, reverse=False) -> list[tf.Tensor]:
        """What `step` carries on, of all steps."""
        if not self._unroll:
            return tf.scan(step, inputs, first, reverse=reverse)
        given = [list(each) for each in zip(*map(tf.unstack, inputs), strict=True)]
        found = []
        for each in reversed(given) if reverse else given:
            first = step(first, each)
            found.append(first)
        found = found[::-1] if reverse else found
        return [tf.stack(each) for each in zip(*found, strict=True)]


def _underivable(gradients: list[tf.Tensor], sources: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Gradients that have no derivatives in anything: in them what a loop has made is constant."""

    def refuse(*_):
        raise UserError(
            "a recurrent layer with a feedback kernel has no second derivatives: take the gradient "
            "of a gradient through keras.layers' own one, or under rule='backprop'."
        )

    @tf.custom_gradient
    def close(*_):
        return [tf.identity(each) for each in gradients], refuse

    return close(*gradients, *sources)


def _cut(tensors: Sequence, first: int, second: int) -> tuple[Sequence, Sequence, Sequence]:
    """Three parts, of so many tensors, so many, and the rest."""
    return tensors[:first], tensors[first : first + second], tensors[first + second :]


def _connection(x: tf.Tensor) -> Connection:
    return DenseConnection() if x.shape.rank == 2 else GatedConnection(x.shape[1])


def _constant(tensors: Any) -> Any:
    """No tape is to look into the loop."""
    return tf.nest.map_structure(tf.stop_gradient, tensors)


def masked(sequences: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sequences with zeros in some steps.

    Args:
        sequences: `[n, steps, ...]`.
        mask: Boolean `[n, steps]`, False in those steps.

    Returns:
        A tensor of the shape of `sequences`.
    """
    mask = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (sequences.shape.rank - 2)], 0))
    return tf.where(mask, sequences, tf.zeros([], sequences.dtype))


def _time_first(tensor: tf.Tensor) -> tf.Tensor:
    """`[n, steps, ...]` as `[steps, n, ...]`, and the other way round."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
