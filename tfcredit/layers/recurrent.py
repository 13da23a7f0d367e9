"""Recurrent layers: errors travel down through one feedback kernel and back in time through one."""

from typing import Any

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.layers.cells import (
    FeedbackCell,
    GRUCell,
    LSTMCell,
    RecurrentComposite,
    SimpleRNNCell,
)


class SequenceLayer:
    """Mixin of Keras' recurrent layers that runs feedback cells along a sequence."""

    @property
    def feedback_cells(self) -> list[FeedbackCell]:
        """The cells, from the bottom up."""
        return list(getattr(self.cell, "cells", [self.cell]))

    def build(self, sequences_shape, initial_state_shape=None):
        """See `keras.layers.RNN.build`."""
        for cell in self.feedback_cells:
            cell.beside_feedback = any(each.has_feedback for each in self.feedback_cells)
            cell.names = ("backwards",) if self.go_backwards else ()
        super().build(sequences_shape, initial_state_shape)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """See `keras.layers.RNN.inner_loop`; one cell after the other runs along the sequence."""
        cells = self.feedback_cells
        if not any(cell.has_feedback for cell in cells):
            return super().inner_loop(sequences, initial_state, mask, training=training)
        mask = self._checked_mask(mask, sequences)
        if self.go_backwards:
            sequences = tf.reverse(sequences, [1])
            mask = None if mask is None else tf.reverse(mask, [1])
        stacked = cells != [self.cell]
        given = list(initial_state) if stacked else [initial_state]
        states = []
        for cell, before in zip(cells, given, strict=True):
            several = isinstance(before, list | tuple)
            sequences, after = cell.run(
                sequences, before if several else [before], mask, training, self.unroll
            )
            states.append(after if several else after[0])
        last, outputs = self._outputs(sequences, tf.nest.flatten(states[-1])[0], mask)
        return last, outputs, states if stacked else states[0]

    def _outputs(self, outputs, last, mask):
        """The last output and all outputs, as Keras masks them."""
        if mask is not None:
            # Until its first step counts a sequence puts out zeros, not its initial state.
            begun = tf.cumsum(tf.cast(mask, tf.int32), 1) > 0
            shown = begun & mask if self.zero_output_for_mask else begun
            last = tf.where(shown[:, -1:], last, tf.zeros([], last.dtype))
            if self.return_sequences:
                if self.zero_output_for_mask and self.unroll and self.go_backwards:
                    # Keras (3.15) leaves this mask in the order of the input if it unrolls.
                    shown = begun & tf.reverse(mask, [1])
                outputs = tf.where(shown[..., None], outputs, tf.zeros([], outputs.dtype))
        return last, outputs if self.return_sequences else last[:, None]

    def _checked_mask(self, mask, sequences) -> tf.Tensor | None:
        """The mask, boolean `[n, steps]`."""
        if isinstance(mask, list | tuple):
            mask = mask[0]
        if mask is None:
            return None
        mask = tf.cast(mask, tf.bool)
        if mask.shape.rank == 3 and mask.shape[-1] == 1:
            mask = mask[..., 0]
        if not mask.shape.is_compatible_with(sequences.shape[:2]):
            raise UserError(
                f"layer {self.name!r} got a mask of shape {tuple(mask.shape)} for sequences of "
                f"shape {tuple(sequences.shape)}: give a mask [samples, steps], here "
                f"{tuple(sequences.shape[:2])}."
            )
        return mask

    def _maybe_config_dropout_masks(self, cell, input_sequence, input_state):
        # Keras calls each cell of a stack, to see what the next one gets.
        states = self._states_of_cells(input_state)
        for each, state in zip(self.feedback_cells, states, strict=True):
            each.get_dropout_mask(input_sequence)
            each.get_recurrent_dropout_mask(state)
            input_sequence = state

    def _states_of_cells(self, states) -> list:
        """The first state of each cell."""
        given = states if self.feedback_cells != [self.cell] else [states]
        return [tf.nest.flatten(each)[0] for each in given]


@keras.saving.register_keras_serializable("tfcredit")
class RNN(SequenceLayer, keras.layers.RNN):
    """`keras.layers.RNN` of feedback cells.

    Takes the arguments of `keras.layers.RNN`. Each cell has rules of its own; their work on the
    feedback kernels is done once in a sequence, which `keras.layers.RNN` can't tell its cells of.

    Args:
        cell: A `SimpleRNNCell`, `LSTMCell` or `GRUCell` of `tfcredit.layers`, several in a list, or
            a `keras.layers.StackedRNNCells` of such.
        **kwargs: Of `keras.layers.RNN`.

    Raises:
        UserError: A cell of another class.

    Example:
        >>> cells = [GRUCell(8, rule="info_alignment"), LSTMCell(4, rule="kolen_pollack")]
        >>> layer = RNN(cells, return_sequences=True)
        >>> layer.compute_output_shape((None, 20, 3))
        (None, 20, 4)
    """

    def __init__(self, cell: Any, **kwargs: Any):
        super().__init__(cell, **kwargs)
        for each in self.feedback_cells:
            if not isinstance(each, FeedbackCell):
                raise UserError(
                    f"cell {getattr(each, 'name', each)!r} ({type(each).__name__}) has no feedback "
                    "kernels: give a SimpleRNNCell, LSTMCell or GRUCell of tfcredit.layers, or put "
                    "it into keras.layers.RNN."
                )


class RecurrentLayer(SequenceLayer, RecurrentComposite):
    """Base of the recurrent layers with a cell of their own, which has their rules."""

    _cells: tuple[type, type[FeedbackCell]]
    """Keras' and ours."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.has_feedback and hasattr(self, "use_cudnn"):
            self._leave_fused_kernel()

    def _leave_fused_kernel(self) -> None:
        """Take the loop of steps, as cuDNN's fused kernel knows no way for errors but W."""
        if self.use_cudnn is True:
            feedback = [r for r in (self.rule, self.recurrent_rule) if not r.is_backprop]
            raise UserError(
                f"use_cudnn=True of layer {self.name!r} contradicts rule {feedback[0].name!r}: "
                "cuDNN's fused kernel sends errors through W; leave it out, or use rule='backprop'."
            )
        self.use_cudnn, self.supports_jit = False, True

    def __setattr__(self, name, value):
        # Keras makes the cell in its constructor and takes no other class for it; it is exchanged
        # before it has variables.
        theirs, ours = self._cells
        if name == "cell" and type(value) is theirs:
            config = value.get_config() | self._settings()
            config |= {"rule": self.rule, "recurrent_rule": self.recurrent_rule}
            if hasattr(value, "implementation"):  # Of no cell's config.
                config["implementation"] = value.implementation
            value = ours.from_config(config)
        super().__setattr__(name, value)


@keras.saving.register_keras_serializable("tfcredit")
class SimpleRNN(RecurrentLayer, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.SimpleRNN`, and the four below. Errors travel down through
    the feedback kernel of the input kernel, and back in time through that of the recurrent kernel:
    `cell.feedback_kernel` and `cell.recurrent_feedback_kernel`. For their rules a sequence is one
    training call: the inputs, products and errors of all steps are the samples, summed over time
    and averaged over the batch as those of positions are; noise is drawn, and B renewed, once.
    Steps that a mask leaves out are no samples.

    Input `[batch, steps, features]`, kernels `[features, units]` and `[units, units]`, output
    `[batch, units]` or, with `return_sequences=True`, `[batch, steps, units]`.

    Args:
        *args: Of `keras.layers.SimpleRNN`.
        rule: The rule of the input kernel. Default `"backprop"`. Anything that
            `tfcredit.rules.get` takes.
        recurrent_rule: That of the recurrent kernel. Default: `rule`.
        feedback_initializer: Initializer of both feedback kernels. Default: the distributions of
            `kernel_initializer` and `recurrent_initializer`, drawn independently, unless the rule
            brings its own.
        seed: Integer seed of the feedback kernels, of the rules' noise, and of dropout. Default:
            drawn from Python's generator.
        **kwargs: Of `keras.layers.SimpleRNN`.

    Raises:
        UserError: An unknown rule; one that sends no error down or, for the recurrent kernel, adds
            noise to the kernel's input or has factors in the place of B.

    Example:
        >>> layer = SimpleRNN(4, rule="info_alignment", recurrent_rule="calibrated_mirror")
        >>> layer.build((None, 20, 3))
        >>> tuple(layer.cell.feedback_kernel.shape)
        (3, 4)
        >>> tuple(layer.cell.recurrent_feedback_kernel.shape)
        (4, 4)
    """

    _cells = keras.layers.SimpleRNNCell, SimpleRNNCell


@keras.saving.register_keras_serializable("tfcredit")
class LSTM(RecurrentLayer, keras.layers.LSTM):
    """`keras.layers.LSTM` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.LSTM`, and `rule`, `recurrent_rule`,
    `feedback_initializer` and `seed` as `tfcredit.layers.SimpleRNN` describes them. Kernels
    `[features, 4 * units]` and `[units, 4 * units]`. The fused kernel of cuDNN sends errors through
    W: with a feedback kernel `use_cudnn="auto"` means `False`, and `True` is refused.

    Example:
        >>> layer = LSTM(4, rule="info_alignment")
        >>> layer.build((None, 20, 3))
        >>> tuple(layer.cell.feedback_kernel.shape)
        (3, 16)
        >>> tuple(layer.cell.recurrent_feedback_kernel.shape)
        (4, 16)
    """

    _cells = keras.layers.LSTMCell, LSTMCell


@keras.saving.register_keras_serializable("tfcredit")
class GRU(RecurrentLayer, keras.layers.GRU):
    """`keras.layers.GRU` whose errors travel through two feedback kernels.

    Takes the arguments of `keras.layers.GRU`, and `rule`, `recurrent_rule`,
    `feedback_initializer` and `seed` as `tfcredit.layers.SimpleRNN` describes them. Kernels
    `[features, 3 * units]` and `[units, 3 * units]`. With `reset_after=False` a step has two
    recurrent products; the rule sees the inputs of both as those of three gates. `use_cudnn` is as
    in `tfcredit.layers.LSTM`.

    Example:
        >>> layer = GRU(4, rule="info_alignment")
        >>> layer.build((None, 20, 3))
        >>> tuple(layer.cell.feedback_kernel.shape)
        (3, 12)
        >>> tuple(layer.cell.recurrent_feedback_kernel.shape)
        (4, 12)
    """

    _cells = keras.layers.GRUCell, GRUCell
