"""Keras networks to networks of feedback layers."""

import inspect
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras

from tfcredit import rules
from tfcredit.analysis.places import Place
from tfcredit.convert.exchange import exchange
from tfcredit.convert.places import with_kernels
from tfcredit.convert.rebuild import rebuild
from tfcredit.errors import UserError
from tfcredit.layers import CompositeLayer, twins
from tfcredit.layers.cells import RecurrentComposite
from tfcredit.models import wire
from tfcredit.models.making import are_choices
from tfcredit.patterns import LayerPatterns, accept_wildcards
from tfcredit.seeding import default_seed, derive

Choice = str | Sequence[str] | Mapping[str, object] | Callable[[keras.Layer], object] | None


def to_feedback(
    model: keras.Model,
    rule: Any = "info_alignment",
    *,
    recurrent_rule: Any = None,
    layers: Choice = None,
    strict: bool = False,
    feedback_initializer: Any = None,
    seed: int | None = None,
) -> keras.Model:
    """The same network of feedback layers, with the same forward weights.

    Every layer that has a feedback layer in `tfcredit.layers` becomes one, in nested models and
    in custom layers too; the others stay as they are and a warning names those among them that
    have kernels or multiply by those of other layers. `report` lists all. Layers that a custom
    layer makes in its own code are exchanged in the new network itself: a file of it holds their
    kernels, but Keras' loading makes the custom layer without them, so make such a network again
    with this function and load its weights.

    Args:
        model: A built functional or sequential model, or a subclassed one with a config.
        rule: The rule of the chosen layers: anything that `tfcredit.rules.get` takes; or, as
            `tfcredit.models.get` takes it, a mapping of regular expressions to rules, in place of
            `layers`.
        recurrent_rule: The rule of the recurrent kernels of chosen layers that have one, through
            which errors travel back in time. Default: the layer's own.
        layers: Layers to convert: None for all; a regular expression, or several; a mapping of
            regular expressions to rules, of which the first that fits counts (its rule may be None:
            backprop); or a function of the layer that gives True for `rule`, another rule, or None
            or False for backprop. An expression fits a layer whose whole name or path it matches. A
            path has the names of what the layer is in before its own, such as `encoder/dense`.
        strict: Whether a layer with a kernel that has no feedback layer is an error.
        feedback_initializer: Of all feedback kernels; see `tfcredit.layers.FeedbackLayer`.
        seed: Integer seed from which each layer's own is derived. Default: drawn from Python's
            generator.

    Returns:
        A new model, not compiled, whose predictions are the same; with rules that send no error
        down, a functional one by `tfcredit.models.wire`.

    Raises:
        UserError: The model is not built, its `call` takes no `training`, it can't be made from
            its config, has feedback kernels
            already, has no layer to convert, two layers share a kernel, a pattern fits no layer,
            a layer has no feedback layer and `strict` is set, both `rule` and `layers` map
            layers to rules, `recurrent_rule` is given and no chosen layer has a recurrent kernel, a
            layer can't have its rule, or the rule sends no error down and `tfcredit.models.wire`
            refuses the model.

    Example:
        >>> plain = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, name="top")])
        >>> model = to_feedback(plain, "feedback_alignment")
        >>> tuple(model.get_layer("top").feedback_kernel.shape)
        (8, 3)
    """
    if are_choices(rule):
        if layers is not None:
            raise UserError(
                f"rule={dict(rule)!r} maps layers to rules, but layers={layers!r} chooses layers "
                "too: leave one out."
            )
        layers = rule
    places = _checked(model)
    free = [place for place in places if place.obstacle is None]
    if not free:
        kinds = sorted({type(place.layer).__name__ for place in places})
        raise UserError(
            f"model {model.name!r} has no layer that can get a feedback kernel (with kernels: "
            f"{', '.join(kinds) or 'none'}): known are {', '.join(_known())}."
        )
    left = {place.path: place.obstacle for place in places if place.obstacle is not None}
    if left:
        named = "; ".join(f"{path}: {why}" for path, why in left.items())
        if strict:
            raise UserError(f"{len(left)} layers of {model.name!r} can't be converted: {named}.")
        warnings.warn(f"stay on backprop in {model.name!r}: {named}.", stacklevel=2)
    chosen = _choose(free, rule, layers)
    back_in_time = None if recurrent_rule is None else rules.get(recurrent_rule)
    _check_rules(free, chosen, back_in_time)
    seed = default_seed() if seed is None else seed

    def own(path):
        arguments = {"rule": rules.serialize(chosen[path]), "seed": derive(seed, path)}
        arguments["recurrent_rule"] = rules.serialize(back_in_time or chosen[path])
        if feedback_initializer is not None:
            initializer = keras.initializers.get(feedback_initializer)
            arguments["feedback_initializer"] = keras.initializers.serialize(initializer)
        return arguments

    made = rebuild(
        model,
        lambda path, config: twins.to_feedback(config, own(path)) if path in chosen else config,
    )

    def twin(place, layer):
        return _twin(layer, own(place.path)) if place.path in chosen else None

    exchange(model, made, twin)
    return wire(made, feedback_initializer, derive(seed, "direct_feedback"))


def _twin(layer, arguments):
    """The config of a chosen layer's feedback layer, if it is none with the rule already."""
    found = [rules.serialize(rule) for rule in twins.rules_of(layer)]
    wanted = [arguments["rule"], arguments["recurrent_rule"]]
    if found and found == wanted[: len(found)] * (len(found) // 2 or 1):
        return None
    return twins.to_feedback(keras.saving.serialize_keras_object(layer), arguments)


def _checked(model) -> list[Place]:
    """The layers with kernels of a model that can be converted."""
    if not isinstance(model, keras.Model):
        raise UserError(f"{model!r} is a {type(model).__name__}, but a keras.Model was expected.")
    if not model.built:
        raise UserError(
            f"model {model.name!r} is not built, so that the shapes of its kernels are unknown: "
            "give it a keras.Input, or call it on a batch."
        )
    if "training" not in inspect.signature(model.call).parameters:
        # Then Keras 3.15 calls it without, and none of its layers learns that it is trained.
        raise UserError(
            f"call of model {model.name!r} takes no `training`, so that its layers never know that "
            "they are trained: give it the argument training=None."
        )
    places = with_kernels(model)
    for place in places:
        if place.rules:
            raise UserError(
                f"layer {place.path!r} has rule {place.rules[0].name!r} already: give the "
                "network to to_backprop first."
            )
    owners = {}
    for place in places:
        for variable in place.own_variables:
            other = owners.setdefault(id(variable), place.path)
            if other != place.path:
                raise UserError(
                    f"layers {other!r} and {place.path!r} share the variable {variable.path!r}, "
                    "but a feedback kernel belongs to one layer: give each its own, or call one "
                    "layer twice."
                )
    return places


def _choose(places: list[Place], rule, choice: Choice) -> dict[str, rules.Rule]:
    """Path -> rule of the layers that get one."""
    if choice is None:
        choice = {".*": rule}
    elif isinstance(choice, str):
        choice = {choice: rule}
    elif isinstance(choice, type) or not (isinstance(choice, Mapping) or callable(choice)):
        if not _are_names(choice):
            raise UserError(
                f"layers={choice!r} says nothing of layers: give a regular expression for their "
                "names, several in a list, a mapping of such to rules, or a function of a layer."
            )
        choice = dict.fromkeys(choice, rule)
    if callable(choice):
        answers = {place.path: choice(place.layer) for place in places}
        answers = {path: rule if answer is True else answer for path, answer in answers.items()}
    else:
        patterns = LayerPatterns(accept_wildcards(choice))
        names = {place.path: (place.path, place.layer.name) for place in places}
        patterns.check(names.values())
        answers = {path: patterns.first(*each) for path, each in names.items()}
    chosen = {
        path: rules.get(answer)
        for path, answer in answers.items()
        if answer is not None and answer is not False
    }
    if not chosen:
        raise UserError("layers chose none of the network's layers: let it choose at least one.")
    return chosen


def _check_rules(
    places: list[Place], chosen: dict[str, rules.Rule], recurrent_rule: rules.Rule | None
) -> None:
    """Refuse rules that chosen layers can't have."""
    places = [place for place in places if place.path in chosen]
    classes = [(twin, place.path) for place in places for twin in twins.twin_classes(place.layer)]
    recurrent = [each for each in classes if issubclass(each[0], RecurrentComposite)]
    if recurrent_rule is not None and not recurrent:
        raise UserError(
            f"recurrent_rule={recurrent_rule.name!r} is given, but none of the chosen layers has a "
            "recurrent kernel: leave it out, or choose SimpleRNN, LSTM, GRU or RNN layers."
        )
    for twin, path in classes:
        if issubclass(twin, CompositeLayer):
            twin.check_rule(chosen[path])
    for twin, path in recurrent:
        twin.check_recurrent_rule(recurrent_rule or chosen[path])


def _are_names(choice: Any) -> bool:
    """True for a collection of texts."""
    collection = isinstance(choice, Collection) and not isinstance(choice, type)
    return collection and all(isinstance(name, str) for name in choice)


def _known() -> list[str]:
    return sorted(cls.__name__ for cls in twins.FEEDBACK)
