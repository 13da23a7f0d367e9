"""Which feedback layer belongs to which Keras layer, and how the config of one becomes the other's.

A config here is what Keras' serialisation makes of a layer: a mapping with `class_name`, `config`
and, inside of a functional model, how the layer is connected.
"""

import inspect

import keras

from tfcredit import layers, rules
from tfcredit.layers.cells import RecurrentComposite
from tfcredit.seeding import derive

OWN_ARGUMENTS = (
    "rule",
    "recurrent_rule",
    "feedback_initializer",
    "seed",
    "alignment_activation",
)
"""What feedback layers take beside the arguments of their Keras layers."""

_NAMED = [(getattr(keras.layers, name, None), getattr(layers, name)) for name in layers.__all__]
FEEDBACK = {keras_class: own for keras_class, own in _NAMED if keras_class is not None}
"""Keras class -> feedback class."""
KERAS = {own: keras_class for keras_class, own in FEEDBACK.items()}
"""Feedback class -> Keras class."""


def cells(layer: keras.layers.RNN) -> list[keras.Layer]:
    """The cells of a recurrent layer.

    Args:
        layer: The layer.

    Returns:
        Its cell, or those of its stack from the bottom up.
    """
    return list(getattr(layer.cell, "cells", [layer.cell]))


def parts(layer: keras.Layer) -> list[keras.Layer] | None:
    """What of a layer has classes in `FEEDBACK` or `KERAS`.

    Args:
        layer: Any layer.

    Returns:
        The layer; of a `RNN` its cells, from the bottom up; None for one without such a class, and
        for a `RNN` that holds such a cell.
    """
    found = cells(layer) if type(layer) in (keras.layers.RNN, layers.RNN) else [layer]
    return found if all(type(each) in FEEDBACK or type(each) in KERAS for each in found) else None


def twin_classes(layer: keras.Layer) -> list[type]:
    """The feedback classes of `parts`; none for a layer that has no such parts."""
    return [FEEDBACK.get(type(each), type(each)) for each in parts(layer) or ()]


def rules_of(layer: keras.Layer) -> list[rules.Rule]:
    """The rules of a feedback layer's kernels, `Backprop` among them.

    Args:
        layer: Any layer.

    Returns:
        Its rule; two for each recurrent cell, of the input kernel and of the recurrent one, also
        for cells in `keras.layers.RNN`; none for a layer that is no feedback layer.
    """
    if isinstance(layer, RecurrentComposite):
        return [layer.rule, layer.recurrent_rule]
    if isinstance(layer, keras.layers.RNN):
        return [rule for cell in cells(layer) for rule in rules_of(cell)]
    is_own = isinstance(layer, layers.FeedbackLayer | layers.CompositeLayer)
    return [layer.rule] if is_own else []


def layer_class(config: dict) -> type | None:
    """The class in `FEEDBACK` or `KERAS` that a config is of.

    Args:
        config: A serialised object.

    Returns:
        The class, or None for all others, and for a `RNN` of a cell without one.
    """
    name, registered = config.get("class_name"), config.get("registered_name")
    if registered == f"tfcredit>{name}":
        found = getattr(layers, name, None)
        found = found if found in KERAS else None
    else:
        module = config.get("module")
        found = getattr(keras.layers, name, None) if module == "keras.layers" else None
        found = found if found in FEEDBACK else None
    if found in (keras.layers.RNN, layers.RNN):
        return found if all(map(layer_class, _cells(config))) else None
    return found


def _cells(config: dict) -> list[dict]:
    """The configs of the cells of a `RNN`'s config."""
    cell = config["config"]["cell"]
    return cell["config"]["cells"] if cell["class_name"] == "StackedRNNCells" else [cell]


def _with_cells(config: dict, others: list[dict]) -> dict:
    """The config of a `RNN` with other cells."""
    cell = config["config"]["cell"]
    if cell["class_name"] == "StackedRNNCells":
        cell = cell | {"config": cell["config"] | {"cells": others}}
    else:
        (cell,) = others
    return config | {"config": config["config"] | {"cell": cell}}


def to_feedback(config: dict, own: dict) -> dict:
    """The config of the feedback layer.

    Args:
        config: That of the Keras layer, or of a feedback layer whose rule is to change.
        own: Values of `OWN_ARGUMENTS` as plain data.

    Returns:
        A new config.
    """
    cls = layer_class(config)
    cls = FEEDBACK.get(cls, cls)
    if cls is layers.RNN:
        own_seeds = [own | {"seed": derive(own["seed"], i)} for i in range(len(_cells(config)))]
        made = map(to_feedback, _cells(config), own_seeds)
        config, own = _with_cells(config, list(made)), {}
    elif not issubclass(cls, RecurrentComposite):
        own = {name: value for name, value in own.items() if name != "recurrent_rule"}
    return config | {
        "module": cls.__module__,
        "registered_name": f"tfcredit>{cls.__name__}",
        "config": config["config"] | own,
    }


def to_keras(config: dict) -> dict:
    """The config of the Keras layer.

    Args:
        config: That of a feedback layer, or of a Keras layer, which may hold feedback cells.

    Returns:
        A new config.
    """
    cls = layer_class(config)
    cls = KERAS.get(cls, cls)
    if cls is keras.layers.RNN:
        config = _with_cells(config, [to_keras(cell) for cell in _cells(config)])
    known = inspect.signature(cls.__init__).parameters
    kept = {k: v for k, v in config["config"].items() if k not in OWN_ARGUMENTS or k in known}
    return config | {"module": "keras.layers", "registered_name": None, "config": kept}
