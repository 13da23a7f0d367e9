"""Layers that become others where they are: those that a custom class makes in its own code."""

import contextlib
import types
from collections.abc import Callable

import keras

from tfcredit.analysis.places import Place, walk
from tfcredit.convert.rebuild import copy_forward_weights, forward_weights, renew_angles
from tfcredit.errors import UserError
from tfcredit.layers.losses import FollowedDecay


def exchange(source: keras.Model, target: keras.Model, twin: Callable[[Place, keras.Layer], dict]):
    """Exchanges layers of a network that was made anew, which no config told of.

    Args:
        source: The network that `target` was made from.
        target: A network of the same layers; changed.
        twin: Function of a layer's place in `source` and of the layer in `target` that gives the
            config of what it is to become, or None.

    Raises:
        UserError: The two have not the same layers.
    """
    places, made = list(walk(source)), list(walk(target))
    if len(places) != len(made):
        raise UserError(
            f"{source.name!r} has {len(places)} layers, but what its config makes has {len(made)}: "
            "custom classes must make the same layers again from their config."
        )
    for old, new in zip(places, made, strict=True):
        config = twin(old, new.layer)
        if config is not None:
            become(new.layer, config)


def become(layer: keras.Layer, config: dict) -> None:
    """Makes another layer of a layer, with the same forward weights.

    It stays the same object, and so do its variables. All that holds it so has the other one:
    attributes and containers of any kind, functional graphs, functions that have it in a closure;
    and what holds its kernel, as `SpectralNormalization` does, has the one that is used.

    Args:
        layer: The layer.
        config: What Keras' serialisation makes of the other one.
    """
    with contextlib.ExitStack() as scopes:
        for name in (layer._parent_path or "").split("/"):  # so that variables keep their paths
            scopes.enter_context(keras.name_scope(name) if name else contextlib.nullcontext())
        new = keras.saving.deserialize_keras_object(config)
    if layer.built:
        copy_forward_weights(layer, new)
        _take_variables(layer, new)
    kept = ("_inbound_nodes", "_outbound_nodes", "_parent_path")
    state = {**vars(new), **{name: vars(layer)[name] for name in kept if name in vars(layer)}}
    object.__setattr__(layer, "__class__", type(new))
    vars(layer).clear()
    vars(layer).update(state)
    for value in state.values():  # Keras wraps `build` and `quantize` in functions of the layer
        for cell in getattr(value, "__closure__", None) or ():
            if cell.cell_contents is new:
                cell.cell_contents = layer
            elif getattr(cell.cell_contents, "__self__", None) is new:
                cell.cell_contents = types.MethodType(cell.cell_contents.__func__, layer)
    renew_angles(layer)


def _take_variables(source: keras.Layer, target: keras.Layer) -> None:
    """Puts the forward weights of a layer in the place of those of another one."""
    taken = {}
    pairs = zip(forward_weights(source), forward_weights(target), strict=True)
    for variable, replaced in pairs:
        variable._autocast, variable.trainable = replaced._autocast, replaced.trainable
        taken[id(replaced)] = variable
    for layer in target._flatten_layers():
        tracker = layer._tracker
        for name, (_, stored) in tracker.config.items():
            stored[:] = [taken.get(id(each), each) for each in stored]
            tracker.stored_ids[name] = {id(each) for each in stored}
        for name, value in vars(layer).items():  # past `setattr`, which Keras tracks
            vars(layer)[name] = taken.get(id(value), value)
        _take_dependencies(layer, taken)
        for variable in layer._trainable_variables:
            if isinstance(variable.regularizer, FollowedDecay):
                kernel = variable.regularizer.kernel
                variable.regularizer.kernel = taken.get(id(kernel), kernel)


def _take_dependencies(layer: keras.Layer, taken: dict[int, keras.Variable]) -> None:
    """Replaces variables in TensorFlow's own lists, by which `tf.train.Checkpoint` finds them."""
    names = layer._self_unconditional_dependency_names
    references = layer._self_unconditional_checkpoint_dependencies
    # Past Keras' wrappers of both, which would track the variables once more.
    for name, value in names.items():
        dict.__setitem__(names, name, taken.get(id(value), value))
    for index, reference in enumerate(references):
        new = type(reference)(reference.name, taken.get(id(reference.ref), reference.ref))
        list.__setitem__(references, index, new)
