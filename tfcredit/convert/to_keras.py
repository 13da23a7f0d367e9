"""Networks of feedback layers to plain Keras networks."""

import keras

from tfcredit.errors import UserError
from tfcredit.layers import FeedbackLayer

_OWN_ARGUMENTS = ("rule", "feedback_initializer", "seed")


def to_backprop(model: keras.Model) -> keras.Model:
    """The same network of Keras' own layers, with the same forward weights.

    What it saves loads without tfcredit; its errors travel through W.

    Args:
        model: A functional or sequential model.

    Returns:
        A new model, not compiled, whose predictions are the same.

    Raises:
        UserError: The model is subclassed, so that Keras can't clone it.

    Example:
        >>> from tfcredit import models
        >>> plain = to_backprop(models.get("conv", 10, (28, 28, 1), rule="info_alignment"))
        >>> type(plain.layers[1]).__module__.split(".")[0]
        'keras'
    """
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise UserError(
            f"model {model.name!r} is a {type(model).__name__}, but a functional or sequential "
            "model was expected: only these can be cloned layer by layer."
        )
    clone = keras.models.clone_model(model, clone_function=_plain_layer)
    # The clone is compiled as the model was, possibly with an optimizer of tfcredit's.
    plain = keras.Model(clone.inputs, clone.outputs, name=model.name)
    sources = {layer.name: layer for layer in model.layers}
    for layer in plain.layers:
        source = sources[layer.name]
        if isinstance(source, FeedbackLayer):
            kept = [source.kernel] + ([] if source.bias is None else [source.bias])
            layer.set_weights([keras.ops.convert_to_numpy(value) for value in kept])
        else:
            layer.set_weights(source.get_weights())
    return plain


def _plain_layer(layer: keras.Layer) -> keras.Layer:
    """A Keras layer of the same configuration."""
    config = layer.get_config()
    if not isinstance(layer, FeedbackLayer):
        return type(layer).from_config(config)
    keras_class = next(c for c in type(layer).__mro__ if c.__module__.startswith("keras."))
    return keras_class.from_config({k: v for k, v in config.items() if k not in _OWN_ARGUMENTS})
