"""Products with kernels that another layer owns."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfcredit import rules
from tfcredit.connections import Connection
from tfcredit.layers.feedback import FeedbackLayer, Reading


class LentKernel(FeedbackLayer):
    """A feedback layer without bias and activation, inside of the layer that owns its kernel.

    Args:
        kernel_initializer: That of the kernel; B has its distribution.
        connection: The three products.
        **kwargs: Of `FeedbackLayer`.
    """

    bias = activation = None

    def __init__(self, kernel_initializer: Callable, connection: Connection, **kwargs: Any):
        self.kernel_initializer = kernel_initializer
        super().__init__(**kwargs)
        self.connection = connection
        self.supports_masking = True

    def lend(self, kernel: keras.Variable) -> None:
        """Take a kernel, and create the feedback kernel where the rule has one.

        Args:
            kernel: The owner's variable.
        """
        vars(self)["_kernel"] = kernel  # Past `setattr`: the owner tracks and saves it.
        self.build((None, kernel.shape[0]))

    @property
    def kernel(self) -> keras.Variable | None:
        """The owner's kernel."""
        return vars(self).get("_kernel")

    def _named_variables(self) -> dict:
        return {name: v for name, v in super()._named_variables().items() if name != "kernel"}

    def _plain_call(self, inputs):
        x = self._activity(inputs)
        return self.connection.op(x, tf.cast(self.kernel, x.dtype))

    def _make_state(self, reading, x=None) -> rules.LayerState:
        state = super()._make_state(reading, x)
        return dataclasses.replace(state, activation=keras.activations.linear)


class RecurrentKernel(LentKernel):
    """A kernel that each step of a sequence multiplies by; its call ends the sequence.

    The rule sees a sequence once, when all steps are done: their inputs and errors are the samples
    of one training call, and what the rule does with B it does once.
    """

    def call(self, inputs, recurrence=None, training=None):
        """End the sequence of a `Recurrence`; `inputs` are the inputs of all products."""
        return recurrence.end(inputs)

    def _read(self) -> Reading:
        """The variables' values; W also in the place of a B that is not there."""
        if self.feedback_kernel is None:
            kernel = tf.convert_to_tensor(self.kernel)
            return Reading(kernel, tf.stop_gradient(kernel))
        return super()._read()
