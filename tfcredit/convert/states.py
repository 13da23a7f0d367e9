"""State of layers beside their variables, and state that layers save in their own way."""

import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfcredit.errors import UserError
from tfcredit.files import scratch
from tfcredit.layers.states import random_states
from tfcredit.layers.twins import parts


def copy_states(source: keras.Layer, target: keras.Layer) -> None:
    """Gives a layer or network what Keras moves from layer to layer by methods, not as weights.

    Those are `save_own_variables` and `load_own_variables`, `save_assets` and `load_assets`,
    `finalize_state`; and, which Keras keeps in no file, the states of random generators and of
    stateful recurrent layers, and the names and `trainable` of layers that a custom layer makes or
    whose config has none.

    Args:
        source: What has the state.
        target: A layer or network of the same architecture, with the same weights.

    Raises:
        UserError: A layer can't load what it saves.
    """
    for old, new in _pairs(source, target):
        if new.name != old.name:
            new.name = old.name
        if new.trainable != old.trainable:
            new.trainable = old.trainable
        if type(old) is type(new) and parts(old) is None:
            _copy_by_methods(old, new)
        if isinstance(old, keras.layers.RNN) and old.states is not None:
            for state, copy in zip(*map(keras.tree.flatten, (old.states, new.states)), strict=True):
                copy.assign(keras.ops.convert_to_numpy(state))
    for old, new in zip(random_states(source), random_states(target), strict=False):
        new.assign(keras.ops.convert_to_numpy(old))


def _pairs(source, target) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """The layers of both, what is inside of those with a feedback twin left out."""
    yield source, target
    if parts(source) is not None:
        return
    inner = [x._flatten_layers(include_self=False, recursive=False) for x in (source, target)]
    for old, new in zip(*inner, strict=False):
        yield from _pairs(old, new)


def _copy_by_methods(old: keras.Layer, new: keras.Layer) -> None:
    try:
        if _has_own(old, "load_own_variables"):
            store: dict[str, Any] = {}
            old.save_own_variables(store)
            new.load_own_variables({key: _as_array(value) for key, value in store.items()})
        elif callable(getattr(new, "finalize_state", None)):
            new.finalize_state()
        if _has_own(old, "load_assets"):
            with scratch() as folder:
                old.save_assets(folder)
                if any(pathlib.Path(folder).iterdir()):
                    new.load_assets(folder)
    except UserError:
        raise
    except Exception as problem:
        raise UserError(
            f"layer {old.name!r} ({type(old).__name__}) can't load what it saves "
            f"({' '.join(str(problem).split())[:200]}): mend its methods save_own_variables, "
            "load_own_variables, save_assets and load_assets, with which a file would fail too."
        ) from problem


def refresh(network: keras.Model) -> None:
    """Lets all layers compute with the values that their variables were given.

    Keras' `Normalization` computes with tensors that it makes of its variables in `adapt`, and as a
    file is loaded, but not where a variable is assigned.

    Args:
        network: A network whose variables were assigned, before anything of it is traced.
    """
    for layer in network._flatten_layers():
        if layer.weights and callable(getattr(layer, "finalize_state", None)):
            layer.finalize_state()


def _has_own(layer: keras.Layer, method: str) -> bool:
    inherited = getattr(keras.layers.Layer, method, None)
    return getattr(type(layer), method, inherited) is not inherited


def _as_array(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value)
