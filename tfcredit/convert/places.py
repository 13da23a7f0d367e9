"""Where the layers of a network are: inside of models, of custom layers, of Keras' own layers."""

import dataclasses
from collections.abc import Iterator

import keras

from tfcredit.layers import FeedbackLayer
from tfcredit.layers.twins import FEEDBACK, KERAS

# Their weights of rank 2 and more stand in no product that an error travels through.
_WITHOUT_PRODUCT = (keras.layers.Embedding, keras.layers.PReLU)


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer and where it is.

    Attributes:
        path: Its name behind those of the models and layers that it is in: `encoder/dense`.
        layer: The layer.
        owner: What holds it.
        wrapper: The Keras layer, such as `TimeDistributed`, that it is inside of, or None.
    """

    path: str
    layer: keras.Layer
    owner: keras.Layer
    wrapper: keras.Layer | None = None

    @property
    def has_twin(self) -> bool:
        """Whether it is a Keras layer with a feedback layer, or a feedback layer."""
        return type(self.layer) in FEEDBACK or type(self.layer) in KERAS

    @property
    def rule(self):
        """The rule of a feedback layer that is not trained by backprop, else None."""
        rule = getattr(self.layer, "rule", None) if type(self.layer) in KERAS else None
        if isinstance(self.layer, FeedbackLayer):
            rule = self.layer.rule
        by_backprop = rule is None or not rule.has_feedback_kernel and rule.sends_error
        return None if by_backprop else rule

    @property
    def obstacle(self) -> str | None:
        """Why the layer can't become a feedback layer, or None if it can."""
        layer = self.layer
        if self.wrapper is not None:
            return f"{type(self.wrapper).__name__} runs it in a way that admits no added loss"
        if not self.has_twin:
            return f"no connection is known for {type(layer).__name__}"
        if getattr(layer, "lora_enabled", False):
            return "LoRA is enabled, so that its kernel is not the one that is used"
        if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
            return "it is quantised"
        return None


def is_own_code(layer: keras.Layer) -> bool:
    """Whether a layer's class comes from neither Keras nor tfcredit."""
    return type(layer).__module__.split(".")[0] not in ("keras", "tfcredit")


def walk(model: keras.Model) -> Iterator[Place]:
    """All layers that hold no other layers, and those that have a feedback twin as a whole.

    Args:
        model: The model.

    Yields:
        Each layer once, in the order in which its owner holds it.
    """
    yield from _walk(model, "", None, set())


def _walk(owner, prefix, wrapper, seen):
    for layer in owner._flatten_layers(include_self=False, recursive=False):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        place = Place(prefix + layer.name, layer, owner, wrapper)
        if place.has_twin or not layer._layers:
            yield place
        elif isinstance(layer, keras.Model) or is_own_code(layer):
            yield from _walk(layer, f"{place.path}/", wrapper, seen)
            yield from [place] if _own_kernels(layer) else []
        else:
            yield from _walk(layer, f"{place.path}/", wrapper or layer, seen)


def with_kernels(model: keras.Model) -> list[Place]:
    """The places of all layers whose weights stand in a product: of a rank of 2 or more.

    Args:
        model: The model.

    Returns:
        The places.
    """
    return [
        place
        for place in walk(model)
        if place.has_twin
        or (_own_kernels(place.layer) and not isinstance(place.layer, _WITHOUT_PRODUCT))
    ]


def _own_kernels(layer) -> bool:
    return any(len(variable.shape) > 1 for variable in layer._trainable_variables)
