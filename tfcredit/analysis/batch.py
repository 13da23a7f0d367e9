"""One look at every layer on a fixed batch, without a trace in the model: all measures share it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit.analysis.alignment import kernel_layers, labels
from tfcredit.errors import UserError
from tfcredit.layers.activity import as_activity
from tfcredit.layers.inner_graphs import inner_graphs
from tfcredit.layers.states import random_states, unchanged


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
    call changes (batch statistics, steps, random states, feedback kernels that it renews, states of
    stateful recurrent layers) is put back. Layers inside of loops, as in `keras.layers.RNN`, of
    `tf.cond` and of functions are not seen.

    Args:
        x: The model's inputs, arrays or tensors with `n` samples each.
        y: Labels, as the loss takes them; `None` where the measure needs no loss.
        loss: What `keras.losses.get` takes, or a function of (labels, outputs). Only the task's
            loss counts, neither R nor regularisers. Default: the one the model is compiled with.
        training: Whether the model is called as in training. The true errors are then those of a
            training step on this batch; dropout and noise are alike for all that is compared.

    Raises:
        UserError: An empty batch; `x` and `y` of different lengths; what is no batch of arrays; no
            labels for a measure that needs them.
    """

    needs_labels = False

    def __init__(self, x: Any, y: Any = None, loss: Any = None, training: bool = True):
        self.x = _as_tensors("x", x)
        self.y = None if y is None else _as_tensors("y", y)
        self.loss = loss
        self.training = training
        self._of: keras.Model | None = None
        if self.y is None and self.needs_labels:
            raise UserError(
                f"{type(self).__name__} needs the labels of its batch, but y is None: give both, "
                "such as x, y = next(iter(dataset))."
            )
        sizes = {_samples(part) for part in tf.nest.flatten((self.x, self.y)) if part is not None}
        if len(sizes) > 1 or 0 in sizes:
            raise UserError(
                f"the batch has parts of {sorted(sizes)} samples: give as many labels as inputs, "
                "one sample at least."
            )

    def __call__(self, model: keras.Model) -> list[dict]:
        """Measure.

        Args:
            model: A Keras model; one that is not built is called once, which builds it.

        Returns:
            Records, flat dictionaries that begin with `layer` and `rule`, in call order.

        Raises:
            UserError: The model has no layer with a kernel, or no loss where one is needed, or
                its loss does not take these labels.
        """
        if self._of is not model:
            if not all(layer.built for layer in model._flatten_layers()):
                model(self.x, training=False)
            self._layers = kernel_layers(model)
            if not self._layers:
                raise UserError(
                    f"no layer of the model {model.name!r} has a kernel that "
                    f"{type(self).__name__} could look at."
                )
            self._labels = labels(model)
            self._run, self._of = self._traced(model), model
        # An evaluation changes states only; statistics that differ between replicas stay.
        changing = _changing_in_training(model, self._layers) if self.training else []
        with unchanged([*changing, *_states(model)]):
            found = tf.nest.map_structure(np.asarray, self._run(self.x, self.y))
        return [
            record
            for layer, values in zip(self._layers, found, strict=True)
            if values
            for record in self._records(self._labels[id(layer)], values)
        ]

    def _graph(self, loss: tf.Tensor | None, calls: list[Call]) -> list:
        """Per call of a layer a dictionary of tensors, in the graph of one forward pass."""
        raise NotImplementedError

    def _records(self, label: dict, values: dict[str, list[np.ndarray]]) -> list[dict]:
        """The records of a layer: each tensor of `_graph`, in a list over the layer's calls."""
        raise NotImplementedError

    def _traced(self, model: keras.Model) -> Callable:
        loss_function = None if self.y is None else self._loss_function(model)
        layers = self._layers

        @tf.function(autograph=False)  # as Keras traces its steps
        def run(x, y):
            with _watched(layers) as calls:
                outputs = model(x, training=self.training)
                loss = None
                if loss_function is not None:
                    loss = self._loss_value(loss_function, y, outputs)
            if not calls:
                raise UserError(
                    f"{type(self).__name__} sees no layer of the model {model.name!r}: those "
                    "with kernels are not called, or inside of branches, loops or functions of "
                    "TensorFlow."
                )
            found = [{} for _ in layers]
            for call, values in zip(calls, self._graph(loss, calls), strict=True):
                for name, value in values.items():
                    found[layers.index(call.layer)].setdefault(name, []).append(value)
            return found

        return run.get_concrete_function(self.x, self.y)

    def _loss_function(self, model: keras.Model) -> Callable[[Any, Any], tf.Tensor]:
        if self.loss is not None:
            return keras.losses.get(self.loss)
        loss = getattr(model, "loss", None)
        if loss is None:
            raise UserError(
                f"{type(self).__name__} needs a loss, but the model {model.name!r} is compiled "
                "with none: give loss=, such as a function of (labels, outputs)."
            )
        if isinstance(loss, list | tuple | dict) or len(getattr(model, "outputs", None) or [0]) > 1:
            return _joined_loss(model)
        return keras.losses.get(loss)

    def _loss_value(self, loss_function, y, outputs) -> tf.Tensor:
        try:
            return tf.reduce_mean(loss_function(y, outputs))
        except (ValueError, TypeError, KeyError, tf.errors.OpError) as problem:
            shapes = [tf.nest.map_structure(lambda v: tuple(v.shape), v) for v in (y, outputs)]
            raise UserError(
                f"the loss takes no labels of shape {shapes[0]} for outputs of shape {shapes[1]} "
                f"({' '.join(str(problem).split())[:200]}): give labels as the loss of the model "
                "takes them, such as one-hot ones for categorical_crossentropy."
            ) from None


def _as_tensors(name: str, value: Any) -> Any:
    """Arrays as tensors, in the structure that they have."""

    def as_tensor(part):
        is_tensor = isinstance(part, tf.SparseTensor | tf.RaggedTensor)
        return part if is_tensor else tf.convert_to_tensor(part)

    try:
        if isinstance(value, tf.data.Dataset):
            raise TypeError
        return tf.nest.map_structure(as_tensor, value)
    except (ValueError, TypeError):
        raise UserError(
            f"{name} is a {type(value).__name__}, but one batch of arrays or tensors was expected: "
            "give such, of a data set x, y = next(iter(dataset))."
        ) from None


def _samples(part: Any) -> int:
    if isinstance(part, tf.RaggedTensor):
        return int(part.nrows())
    return int(part.shape[0]) if part.shape.rank else 0


def _joined_loss(model: keras.Model) -> Callable[[Any, Any], tf.Tensor]:
    """The loss of a model with several, as Keras joins them; the model's metrics do not see it."""
    other = keras.Model()
    if getattr(model, "output_names", None):
        other.output_names = list(model.output_names)
    weights = getattr(model._compile_loss, "_user_loss_weights", None)
    other.compile(loss=model.loss, loss_weights=weights)
    return lambda y, outputs: other.compute_loss(y=y, y_pred=outputs)


@contextlib.contextmanager
def _watched(layers: Sequence[keras.Layer]) -> Iterator[list[Call]]:
    """The calls of the layers inside the block."""
    calls: list[Call] = []
    activations = [layer.activation for layer in layers]
    try:
        for layer in layers:
            _watch(layer, calls)
        yield calls
    finally:
        for layer, activation in zip(layers, activations, strict=True):
            vars(layer).pop("call", None)
            vars(layer)["activation"] = activation


def _watch(layer: keras.Layer, calls: list[Call]) -> None:
    """Puts functions before the layer's own; past `setattr`, which Keras tracks and may lock."""
    call, activation, given = layer.call, layer.activation, []

    def watched_activation(y):
        given.append(y)
        return activation(y)

    def watched_call(inputs, *args, **kwargs):
        if inner_graphs():  # out of which no tensor gets
            return call(inputs, *args, **kwargs)
        inputs = differentiable(layer, inputs)
        given.clear()
        outputs = call(inputs, *args, **kwargs)
        # A rule may have used the activation too, but before.
        calls.append(Call(layer, inputs, given[-1] if given else outputs, outputs))
        return outputs

    vars(layer)["call"] = watched_call
    if activation is not None:
        vars(layer)["activation"] = watched_activation


def gradients(target: tf.Tensor, sources: Sequence[tf.Tensor | tf.Variable]) -> list[tf.Tensor]:
    """Gradients in the graph that is being traced.

    No tape: one for several gradients makes TensorFlow (2.21) derive loops while the network is
    called, before it is known which errors are asked for, and fail at custom gradients in branches.

    Args:
        target: A scalar, or the sum of its numbers is meant.
        sources: Tensors of the graph, and variables.

    Returns:
        As many; zeros where the target does not depend on a source.
    """
    graph = tf.compat.v1.get_default_graph()

    def of_graph(source):
        if isinstance(source, tf.distribute.DistributedValues):
            source = source.values[0]
        return graph.capture(source.handle) if isinstance(source, tf.Variable) else source

    found = tf.gradients(target, [of_graph(s) for s in sources], unconnected_gradients="zero")
    return [tf.convert_to_tensor(each) for each in found]


def differentiable(layer: keras.Layer, inputs: Any) -> Any:
    """A layer's input as its product has it: sparse, ragged and whole ones have no derivative.

    Args:
        layer: The layer.
        inputs: What its call got.

    Returns:
        A dense floating tensor; floating ones as they are.
    """
    sparse = isinstance(inputs, tf.SparseTensor | tf.RaggedTensor)
    if sparse or inputs.dtype.is_integer or inputs.dtype.is_bool:
        return as_activity(inputs, layer.compute_dtype, layer.name, "backprop")
    return inputs


def _changing_in_training(
    model: keras.Model, layers: Sequence[keras.Layer]
) -> list[keras.Variable]:
    """What a training call changes without an optimizer."""
    feedback = [getattr(layer, "feedback_kernel", None) for layer in layers]
    variables = [v for v in model.variables if not v.trainable]
    return variables + [v for v in feedback if v is not None and v.trainable]


def _states(model: keras.Model) -> list[keras.Variable]:
    """What a call outside of training changes, too.

    Those are the states of stateful recurrent layers, which Keras counts among no variables, and
    the random states of recurrent layers, which draw dropout's masks whether they train or not.
    """
    recurrent = [each for each in model._flatten_layers() if isinstance(each, keras.layers.RNN)]
    kept = [layer.states for layer in recurrent if layer.states is not None]
    return [*keras.tree.flatten(kept), *random_states(model)]
