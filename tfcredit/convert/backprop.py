"""Networks of feedback layers to plain Keras networks."""

import keras

from tfcredit.analysis.places import everything
from tfcredit.convert.exchange import exchange
from tfcredit.convert.rebuild import rebuild
from tfcredit.errors import UserError
from tfcredit.layers import twins
from tfcredit.models import unwire


def to_backprop(model: keras.Model) -> keras.Model:
    """The same network of Keras' own layers, with the same forward weights.

    What it saves loads without tfcredit; its errors travel through W. A network without feedback
    layers is copied.

    Args:
        model: A built functional or sequential model, or a subclassed one with a config.

    Returns:
        A new model, not compiled, whose predictions are the same.

    Raises:
        UserError: The model can't be made from its config, `tfcredit.models.unwire` refuses it, or
            a layer with another rule than backprop is of a class that stands for none of Keras'.

    Example:
        >>> from tfcredit import models
        >>> plain = to_backprop(models.get("conv", 10, (28, 28, 1), rule="info_alignment"))
        >>> type(plain.layers[1]).__module__.split(".")[0]
        'keras'
    """
    if not isinstance(model, keras.Model):
        raise UserError(f"{model!r} is a {type(model).__name__}, but a keras.Model was expected.")
    model = unwire(model)
    made = rebuild(model, lambda _, config: twins.to_keras(config))
    exchange(model, made, lambda _, layer: _twin(layer))
    left = [place for place in everything(made) if _has_feedback(place.layer)]
    if left:
        named = ", ".join(f"{place.path!r} ({type(place.layer).__name__})" for place in left)
        raise UserError(
            f"{named} of model {model.name!r} would keep its rule, as keras.layers has no class "
            "that it stands for: put a Keras layer in its place, or give it rule='backprop'."
        )
    return made


def _has_feedback(layer) -> bool:
    """True for a feedback layer that does not train by backprop."""
    return any(not rule.is_backprop for rule in twins.rules_of(layer))


def _twin(layer):
    """The config of a feedback layer's Keras layer."""
    if twins.parts(layer) is None or not twins.rules_of(layer):
        return None
    return twins.to_keras(keras.saving.serialize_keras_object(layer))
