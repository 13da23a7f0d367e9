"""Which layers multiply by which kernels, seen in a trace of the network.

A layer that multiplies by a kernel outside of the call of the layer that owns it sends its errors
back through that kernel, whatever rule the owner has: weight transport.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfcredit.analysis.places import is_own_code, own_variables

_CONTROL = ("Call", "While", "If", "Case")
_PRODUCTS = ("MatMul", "Einsum", "Conv", "Mul", *_CONTROL)
"""Parts of the names of operations that multiply, or may do so inside."""
_SHAPES = ("Shape", "ShapeN", "Size", "Rank")


@dataclasses.dataclass(frozen=True)
class Products:
    """Who multiplies an activity by what.

    Attributes:
        found: Of a layer's id, the ids of the layers whose kernels it multiplies by.
        is_known: False if the network was not traced, so that nothing is known.
    """

    found: dict[int, set[int]]
    is_known: bool

    def multiplies_by_own(self, layer: keras.Layer) -> bool:
        """True if the layer multiplies by a kernel of its own."""
        return id(layer) in self.found.get(id(layer), ())

    def owners_of_others(self, layer: keras.Layer) -> list[int]:
        """The ids of the other layers whose kernels the layer multiplies by."""
        return [owner for owner in self.found.get(id(layer), ()) if owner != id(layer)]


def foreign_products(
    model: keras.Model, owners: Sequence[tuple[keras.Layer, list[keras.Variable]]]
) -> Products:
    """Traces a network, if it has code that may use the kernels of other layers.

    Args:
        model: A model.
        owners: Layers, and the variables that belong to each.

    Returns:
        The products that were seen; nothing is known of a model that can't be traced.
    """
    layers = [layer for layer, _ in owners]
    if not any(_may_multiply(layer) for layer in (model, *layers)):
        return Products({}, True)
    owner_of = {
        id(variable): layer
        for layer, variables in owners
        for variable in variables
        if len(variable.shape) > 1
    }
    owner_of |= {id(v): model for v in own_variables(model) if len(v.shape) > 1}
    for inputs in _possible_inputs(model):
        try:
            return Products(_traced(model, layers, owner_of, inputs), True)
        except Exception:  # noqa: BLE001 - the user's code; what it refuses is not known here
            continue
    return Products({}, False)


def _may_multiply(layer: keras.Layer) -> bool:
    operations = getattr(layer, "operations", ())
    has_code = any(not isinstance(operation, keras.Layer) for operation in operations)
    kinds = keras.layers.Lambda, keras.layers.ReversibleEmbedding
    return is_own_code(layer) or has_code or isinstance(layer, kinds)


def _possible_inputs(model: keras.Model) -> Iterator[Any]:
    """Specifications of what the model may be called on."""

    def spec(tensor):
        return tf.TensorSpec(tensor.shape, tensor.dtype)

    if getattr(model, "inputs", None):
        struct = getattr(model, "_inputs_struct", None)
        yield tf.nest.map_structure(spec, model.inputs[0] if struct is None else struct)
        return
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if len(shapes) == 1:
        (shape,) = shapes.values()
        for dtype in ("float32", "int32"):
            yield keras.tree.map_shape_structure(lambda s, t=dtype: tf.TensorSpec(s, t), shape)


def _traced(model, layers, owner_of, inputs) -> dict[int, set[int]]:
    calls: list[_Called] = []
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    first_count = len(model.trainable_variables)
    # What layers hold inside gives activities, too.
    watched = {id(each): each for layer in layers for each in layer._flatten_layers()}

    def run(values, x):
        # On values in the variables' place, so that nothing is assigned.
        values = [tf.identity(value) for value in values]
        model.stateless_call(values[:first_count], values[first_count:], x, training=False)

    specs = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
    try:
        for layer in watched.values():  # past `setattr`, which Keras tracks
            vars(layer)["call"] = _watched(layer, calls)
        graph = tf.function(run, autograph=False).get_concrete_function(specs, inputs).graph
    finally:
        for layer in watched.values():
            vars(layer).pop("call", None)
    operations = graph.get_operations()
    index = {operation: i for i, operation in enumerate(operations)}
    places = {id(layer) for layer in layers}
    ranges = [
        (each.starts[0][1], each.end, each.layer)
        for each in calls
        if each.starts[0][0] is graph and id(each.layer) in places
    ]
    branches = _in_branches(operations, graph, calls)
    given = {id(part) for each in calls for part in tf.nest.flatten(each.outputs)}
    count = len(variables) + len(tf.nest.flatten(inputs))  # what follows are constants
    active = _active(operations, {each.op for each in graph.inputs[len(variables) : count]})
    found = defaultdict(set)
    for variable, tensor in zip(variables, graph.inputs[: len(variables)], strict=True):
        owner = owner_of.get(id(variable))
        if owner is None:
            continue
        for operation in _multiplied(tensor, active, given):
            i = index[operation]
            if id(owner) not in branches[i]:
                found[id(_innermost(ranges, i, model))].add(id(owner))
            elif branches[i][id(owner)]:
                found[id(owner)].add(id(owner))
    return found


@dataclasses.dataclass(frozen=True)
class _Called:
    """A call of a layer.

    Attributes:
        starts: How many operations the graph of the call and those around it had before.
        end: How many its own graph has behind it.
        layer: The layer.
        outputs: What it gave.
    """

    starts: list[tuple[tf.Graph, int]]
    end: int
    layer: keras.Layer
    outputs: Any


def _watched(layer: keras.Layer, calls: list[_Called]):
    call = layer.call

    def watched_call(*args, **kwargs):
        graph = around = tf.compat.v1.get_default_graph()
        starts = []
        while around is not None:
            starts.append((around, len(around.get_operations())))
            around = getattr(around, "outer_graph", None)
        outputs = call(*args, **kwargs)
        calls.append(_Called(starts, len(graph.get_operations()), layer, outputs))
        return outputs

    return watched_call


def _in_branches(operations, graph: tf.Graph, calls: list[_Called]) -> dict[int, dict[int, bool]]:
    """Of operations that run graphs, the layers that these call, and whether they multiply there.

    Such a graph is traced before the operation is made.
    """
    found = defaultdict(dict)
    control = [i for i, each in enumerate(operations) if any(w in each.type for w in _CONTROL)]
    for each in calls:
        inner, start = each.starts[0]
        made = inner.get_operations()[start : each.end]
        multiplies = any(part in operation.type for operation in made for part in _PRODUCTS)
        for _, before in [outer for outer in each.starts[1:] if outer[0] is graph]:
            i = next((i for i in control if i >= before), None)
            found[i][id(each.layer)] = found[i].get(id(each.layer), False) or multiplies
    return found


def _active(operations, inputs: set) -> set:
    """The operations whose values follow from the network's inputs."""
    active = set(inputs)
    for operation in operations:  # they come in the order in which they were made
        follows = any(tensor.op in active for tensor in operation.inputs)
        if follows and operation.type not in _SHAPES:
            active.add(operation)
    return active


def _multiplied(tensor: tf.Tensor, active: set, given: set[int]) -> list:
    """The operations that multiply an activity by what follows from the tensor alone.

    What a layer has given is an activity too, even if it depends on no input, as the table of
    relative positions that another layer projects.
    """
    found, seen, waiting = [], set(), [tensor]
    while waiting:
        tensor = waiting.pop()
        for operation in () if id(tensor) in given else tensor.consumers():
            if operation in seen:
                continue
            seen.add(operation)
            if operation not in active:
                waiting += operation.outputs
            elif any(part in operation.type for part in _PRODUCTS):
                found.append(operation)
    return found


def _innermost(ranges, index: int, model: keras.Model) -> keras.Layer:
    around = [(end - start, layer) for start, end, layer in ranges if start <= index < end]
    return min(around, key=lambda each: each[0])[1] if around else model
