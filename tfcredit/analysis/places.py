"""The one walk over a network's layers: inside models, custom layers and Keras' own layers."""

import dataclasses
from collections.abc import Iterator

import keras

from tfcredit.layers import FeedbackLayer
from tfcredit.layers.cells import RecurrentComposite
from tfcredit.layers.twins import FEEDBACK, parts, rules_of
from tfcredit.rules import Rule

_CELLS = keras.layers.SimpleRNNCell, keras.layers.LSTMCell, keras.layers.GRUCell


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer and where it is.

    Attributes:
        path: Its name behind those of the models and layers that it is in: `encoder/dense`. No
            other layer of the network has this path.
        layer: The layer.
        owner: What holds it.
        wrapper: The Keras layer, such as `TimeDistributed`, that it is inside of, or None.
        tied: What its products with kernels that it has no feedback kernel for are, or None.
    """

    path: str
    layer: keras.Layer
    owner: keras.Layer
    wrapper: keras.Layer | None = None
    tied: str | None = None

    @property
    def has_twin(self) -> bool:
        """True for a Keras layer that has a feedback layer, and for a feedback layer."""
        return parts(self.layer) is not None

    @property
    def rules(self) -> list[Rule]:
        """The rules of a feedback layer but backprop, each once."""
        if not self.has_twin and not isinstance(self.layer, FeedbackLayer):
            return []  # What a composite layer of another class holds has places of its own.
        found = dict.fromkeys(rules_of(self.layer))
        return [rule for rule in found if not rule.is_backprop]

    @property
    def own_variables(self) -> list[keras.Variable]:
        """The layer's kernels and biases; those of the layers in it only if it has a twin."""
        if not self.has_twin:
            return own_variables(self.layer)
        layers = self.layer._flatten_layers()
        return [variable for layer in layers for variable in layer._trainable_variables]

    @property
    def obstacle(self) -> str | None:
        """Why the layer can't become a feedback layer, or None if it can."""
        layer = self.layer
        if self.tied is not None:
            return self.tied
        if isinstance(self.wrapper, keras.layers.RNN):
            return f"{type(self.wrapper).__name__} holds a cell that has no feedback cell"
        if isinstance(self.wrapper, keras.layers.TimeDistributed):
            return "TimeDistributed around it does not know the number of steps"
        if self.wrapper is not None:
            return f"{type(self.wrapper).__name__} runs it in a way that admits no added loss"
        if not self.has_twin:
            return f"no connection is known for {type(layer).__name__}"
        if isinstance(layer, _CELLS):
            return "it is called step by step, by what is no recurrent layer of Keras"
        if getattr(layer, "lora_enabled", False):
            return "LoRA is enabled, so that its kernel is not the one that is used"
        if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
            return "it is quantised"
        return None


def is_own_code(layer: keras.Layer) -> bool:
    """True for a layer whose class comes from neither Keras nor tfcredit."""
    return type(layer).__module__.split(".")[0] not in ("keras", "tfcredit")


def walk(model: keras.Model) -> Iterator[Place]:
    """All layers that hold no other layers, and those that have a feedback twin as a whole.

    Args:
        model: The model.

    Yields:
        Each layer once. Those of functional and sequential models come in call order, those of
        other models and of custom layers in the order in which these hold them.
    """
    for place in everything(model):
        if place.has_twin or not place.layer._layers or holds_own_kernels(place):
            yield place


def everything(model: keras.Model) -> Iterator[Place]:
    """All layers, also those that hold others; what a feedback twin holds is left out.

    Args:
        model: The model.

    Yields:
        Each layer once, behind the layers that it holds, in the order of `walk`.
    """
    used: set[str] = set()
    for place in _everything(model, "", None, set()):
        path, number = place.path, 1
        while path in used:  # custom layers may hold several of one name
            path, number = f"{place.path}_{number}", number + 1
        used.add(path)
        yield dataclasses.replace(place, path=path)


def _everything(owner, prefix, wrapper, seen):
    for layer in owner._flatten_layers(include_self=False, recursive=False):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        place = Place(prefix + layer.name, layer, owner, wrapper)
        if not place.has_twin:
            inner = wrapper if not layer._layers or _calls_layers(layer) else wrapper or layer
            yield from _everything(layer, f"{place.path}/", inner, seen)
        yield place


def _calls_layers(layer: keras.Layer) -> bool:
    """True for what calls the layers that it holds, as code of the user's does.

    Other layers of Keras run theirs in loops, from which no loss and no new value gets out.
    """
    if isinstance(layer, keras.layers.TimeDistributed):
        shape = (layer._build_shapes_dict or {}).get("input_shape")
        return shape is not None and shape[1] is not None  # else it runs a vectorised map
    kinds = keras.Model, keras.layers.Wrapper, keras.layers.Bidirectional, keras.layers.Pipeline
    return isinstance(layer, kinds) or is_own_code(layer)


def holds_own_kernels(place: Place) -> bool:
    """True for a model or custom layer that has kernels beside those of the layers in it."""
    is_container = isinstance(place.layer, keras.Model) or is_own_code(place.layer)
    return is_container and own_kernels(place.layer)


def with_one_kernel(model: keras.Model) -> list[Place]:
    """The places of all layers that have one kernel and a feedback twin, or a feedback kernel.

    Args:
        model: The model.

    Returns:
        The places in the order of `walk`. Layers with several kernels, such as
        `MultiHeadAttention` and `LSTM`, stand for the layers in them: `attention/query`,
        `lstm/lstm_cell/recurrent_kernel`.
    """
    return [each for place in everything(model) for each in _one_kernel_each(place)]


def _one_kernel_each(place: Place) -> Iterator[Place]:
    if _has_one_kernel(place.layer):
        yield place
    if place.has_twin and not isinstance(place.layer, FeedbackLayer):
        for each in everything(place.layer):
            path, wrapper = f"{place.path}/{each.path}", place.wrapper or each.wrapper
            yield from _one_kernel_each(dataclasses.replace(each, path=path, wrapper=wrapper))


def _has_one_kernel(layer: keras.Layer) -> bool:
    twin = FEEDBACK.get(type(layer))
    known = twin is not None and not issubclass(twin, RecurrentComposite)
    known = known or isinstance(layer, FeedbackLayer)
    return known and getattr(layer, "kernel", None) is not None


def own_kernels(layer: keras.Layer) -> bool:
    """True for a layer with a trained variable of rank 2 or more that is no inner layer's."""
    return any(len(variable.shape) > 1 for variable in own_variables(layer))


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The trained variables of a layer that are no inner layer's.

    `SpectralNormalization`, and code of the user's, holds the kernel of an inner layer, too.
    """
    if not layer._trainable_variables:
        return []
    inner = layer._flatten_layers(include_self=False)
    others = {id(variable) for each in inner for variable in each._trainable_variables}
    return [variable for variable in layer._trainable_variables if id(variable) not in others]
