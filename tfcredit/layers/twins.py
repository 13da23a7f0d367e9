"""Which feedback layer belongs to which Keras layer, and how the config of one becomes the other's.

A config here is what Keras' serialisation makes of a layer: a mapping with `class_name`, `config`
and, inside of a functional model, how the layer is connected.
"""

import inspect

import keras

from tfcredit import layers

OWN_ARGUMENTS = ("rule", "feedback_initializer", "seed", "alignment_activation")
"""What feedback layers take beside the arguments of their Keras layers."""

_NAMED = [(getattr(keras.layers, name, None), getattr(layers, name)) for name in layers.__all__]
FEEDBACK = {keras_class: own for keras_class, own in _NAMED if keras_class is not None}
"""Keras class -> feedback class."""
KERAS = {own: keras_class for keras_class, own in FEEDBACK.items()}
"""Feedback class -> Keras class."""


def layer_class(config: dict) -> type | None:
    """The class in `FEEDBACK` or `KERAS` that a config is of.

    Args:
        config: A serialised object.

    Returns:
        The class, or None for all others.
    """
    name, registered = config.get("class_name"), config.get("registered_name")
    if registered == f"tfcredit>{name}":
        found = getattr(layers, name, None)
        return found if found in KERAS else None
    found = getattr(keras.layers, name, None) if config.get("module") == "keras.layers" else None
    return found if found in FEEDBACK else None


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
    return config | {
        "module": cls.__module__,
        "registered_name": f"tfcredit>{cls.__name__}",
        "config": config["config"] | own,
    }


def to_keras(config: dict) -> dict:
    """The config of the Keras layer.

    Args:
        config: That of a feedback layer.

    Returns:
        A new config.
    """
    cls = KERAS[layer_class(config)]
    known = inspect.signature(cls.__init__).parameters
    kept = {k: v for k, v in config["config"].items() if k not in OWN_ARGUMENTS or k in known}
    return config | {"module": "keras.layers", "registered_name": None, "config": kept}
