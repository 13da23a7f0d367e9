"""What measures on a fixed batch share: one look at every layer, without a trace in the model."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit.analysis.alignment import kernel_layers, labels
from tfcredit.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Attributes:
        layer: The layer.
        x: Its input.
        y: Its pre-activation, with bias: what its activation got.
        outputs: What it gave.
    """

    layer: keras.Layer
    x: tf.Tensor
    y: tf.Tensor
    outputs: tf.Tensor


class BatchMeasure:
    """A measure on a fixed batch: call it with a model and it gives records, one per layer.

    The first call with a model traces a graph, further ones with the same model run it. Whatever a
    training call changes (batch statistics, steps, random states, feedback kernels that it renews)
    is put back. Layers inside of loops, as in `keras.layers.RNN`, are not seen.

    Args:
        x: The model's inputs, arrays or tensors with `n` samples each.
        y: Labels, as the loss takes them; `None` where the measure needs no loss.
        loss: What `keras.losses.get` takes, or a function of (labels, outputs). Only the task's
            loss counts, neither R nor regularisers. Default: the one the model is compiled with.
        training: Whether the model is called as in training. The true errors are then those of a
            training step on this batch; dropout and noise are alike for all that is compared.

    Raises:
        UserError: An empty batch; `x` and `y` of different lengths.
    """

    def __init__(self, x: Any, y: Any = None, loss: Any = None, training: bool = True):
        self.x = tf.nest.map_structure(tf.convert_to_tensor, x)
        self.y = None if y is None else tf.nest.map_structure(tf.convert_to_tensor, y)
        self.loss = loss
        self.training = training
        self._of: keras.Model | None = None
        sizes = {len(part) for part in tf.nest.flatten((self.x, self.y)) if part is not None}
        if len(sizes) > 1 or 0 in sizes:
            raise UserError(
                f"the batch has parts of {sorted(sizes)} samples: give as many labels as inputs, "
                "one sample at least."
            )

    def __call__(self, model: keras.Model) -> list[dict]:
        """Measure.

        Args:
            model: A built Keras model.

        Returns:
            Records, flat dictionaries that begin with `layer` and `rule`, in call order.

        Raises:
            UserError: The model has no layer with a kernel, or no loss where one is needed.
        """
        if self._of is not model:
            self._layers = kernel_layers(model)
            if not self._layers:
                raise UserError(
                    f"no layer of the model {model.name!r} has a kernel that "
                    f"{type(self).__name__} could look at."
                )
            self._run, self._of = self._traced(model), model
        with _unchanged(model, self._layers):
            found = tf.nest.map_structure(np.asarray, self._run(self.x, self.y))
        return [
            record
            for label, values in zip(labels(self._layers), found, strict=True)
            if values
            for record in self._records(label, values)
        ]

    def _graph(self, tape: tf.GradientTape, loss: tf.Tensor | None, calls: list[Call]) -> list:
        """Per call of a layer a dictionary of tensors, from one forward pass on the tape."""
        raise NotImplementedError

    def _records(self, label: dict, values: dict[str, list[np.ndarray]]) -> list[dict]:
        """The records of a layer: each tensor of `_graph`, in a list over the layer's calls."""
        raise NotImplementedError

    def _traced(self, model: keras.Model) -> Callable:
        loss_function = None if self.y is None else self._loss_function(model)
        layers = self._layers

        @tf.function(autograph=False)  # as Keras traces its steps
        def run(x, y):
            with tf.GradientTape(persistent=True) as tape, _watched(layers, tape) as calls:
                tape.watch([layer.kernel.value for layer in layers])
                outputs = model(x, training=self.training)
                loss = None
                if loss_function is not None:
                    loss = tf.reduce_mean(loss_function(y, outputs))
            graph = tf.compat.v1.get_default_graph()
            calls = [call for call in calls if call.outputs.graph is graph]
            found = [{} for _ in layers]
            for call, values in zip(calls, self._graph(tape, loss, calls), strict=True):
                for name, value in values.items():
                    found[layers.index(call.layer)].setdefault(name, []).append(value)
            return found

        return run.get_concrete_function(self.x, self.y)

    def _loss_function(self, model: keras.Model) -> Callable[[Any, Any], tf.Tensor]:
        loss = getattr(model, "loss", None) if self.loss is None else self.loss
        if loss is None or isinstance(loss, list | tuple | dict):
            raise UserError(
                f"{type(self).__name__} needs one loss, but the model {model.name!r} is compiled "
                f"with {loss!r}: give loss=, such as a function of (labels, outputs)."
            )
        return keras.losses.get(loss)


@contextlib.contextmanager
def _watched(layers: Sequence[keras.Layer], tape: tf.GradientTape) -> Iterator[list[Call]]:
    """The calls of the layers inside the block; the tape watches their inputs."""
    calls: list[Call] = []
    activations = [layer.activation for layer in layers]
    try:
        for layer in layers:
            _watch(layer, tape, calls)
        yield calls
    finally:
        for layer, activation in zip(layers, activations, strict=True):
            vars(layer).pop("call", None)
            vars(layer)["activation"] = activation


def _watch(layer: keras.Layer, tape: tf.GradientTape, calls: list[Call]) -> None:
    """Puts functions before the layer's own; past `setattr`, which Keras tracks and may lock."""
    call, activation, given = layer.call, layer.activation, []

    def watched_activation(y):
        given.append(y)
        return activation(y)

    def watched_call(inputs, *args, **kwargs):
        tape.watch(inputs)
        given.clear()
        outputs = call(inputs, *args, **kwargs)
        # A rule may have used the activation too, but before.
        calls.append(Call(layer, inputs, given[-1] if given else outputs, outputs))
        return outputs

    vars(layer)["call"] = watched_call
    if activation is not None:
        vars(layer)["activation"] = watched_activation


@contextlib.contextmanager
def _unchanged(model: keras.Model, layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Puts back what a training call changes without an optimizer."""
    feedback = [getattr(layer, "feedback_kernel", None) for layer in layers]
    variables = [v for v in model.variables if not v.trainable]
    variables += [v for v in feedback if v is not None and v.trainable]
    values = [tf.identity(v.value) for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
