"""The weights of a network drawn anew from a seed, but for what training would not change."""

from typing import Any

import keras

from tfcredit.convert.rebuild import rebuild
from tfcredit.layers.states import random_states
from tfcredit.seeding import derive


def redraw(model: keras.Model, seed: int) -> keras.Model:
    """Makes a network of the same layers, whose weights their initializers draw.

    All seeds in the layers' configs give way to one from `seed` and the layer's place, so that
    dropout and random augmentation draw other numbers, too. What a training leaves alone stays: the
    weights of frozen layers, and what `adapt` has set, such as the statistics of `Normalization`.

    Args:
        model: A network of Keras' layers.
        seed: The seed.

    Returns:
        A new network, not compiled.

    Raises:
        UserError: The model or one of its layers can't be made from its config.
    """
    made = rebuild(model, lambda _, config: config)
    config = _reseeded(keras.saving.serialize_keras_object(model), seed, ())
    config.pop("compile_config", None)
    drawn = keras.saving.deserialize_keras_object(config, safe_mode=False)
    stays = _staying(model)
    for variables in (lambda network: network.weights, random_states):
        for old, variable, new in zip(*map(variables, (model, made, drawn)), strict=True):
            if id(old) not in stays:
                variable.assign(keras.ops.convert_to_numpy(new))
    return made


def _staying(model: keras.Model) -> set[int]:
    """The ids of the variables that a training leaves alone."""
    return {
        id(variable)
        for layer in model._flatten_layers()
        if not layer.trainable or hasattr(layer, "adapt")
        for variable in layer._trainable_variables + layer._non_trainable_variables
    }


def _reseeded(node: Any, seed: int, place: tuple[str, ...]) -> Any:
    """A config with a seed of its own wherever it states one, or none."""
    if isinstance(node, list | tuple):
        return [_reseeded(each, seed, (*place, str(index))) for index, each in enumerate(node)]
    if not isinstance(node, dict):
        return node
    return {
        key: derive(seed, *place)
        if key == "seed" and (value is None or isinstance(value, int))
        else _reseeded(value, seed, (*place, str(key)))
        for key, value in node.items()
    }
