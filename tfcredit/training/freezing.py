"""The layers of a network that train, and those that are frozen."""

import keras

from tfcredit.analysis.places import Place, walk
from tfcredit.layers import DirectFeedback
from tfcredit.layers.twins import rules_of
from tfcredit.patterns import LayerPatterns
from tfcredit.training.recipe import Recipe


def freeze(network: keras.Model, recipe: Recipe) -> None:
    """Freeze the layers of a network that flags leave out of the training.

    A frozen layer sends errors on through its feedback kernel, which rests with the forward one.
    Frozen batch norms normalize by their moving statistics, as Keras has it. The feedback kernels
    of direct feedback belong to no layer that a pattern could mean, and learn on.

    Args:
        network: The network, not compiled.
        recipe: The flags. Without `--trainable` and `--bn_trainable` all stays as it is.

    Raises:
        UserError: The pattern is no regular expression, or fits no layer.
    """
    places = _with_weights(network)
    if recipe.trainable is not None:
        patterns = LayerPatterns({recipe.trainable: True})
        names = {place.path: (place.path, place.layer.name) for place in places}
        patterns.check(names.values(), "layer with weights")
        network.trainable = True  # also of nested models that are frozen as a whole
        for place in places:
            place.layer.trainable = patterns.first(*names[place.path], default=False)
    if recipe.bn_trainable is not None:
        for place in places:
            if isinstance(place.layer, keras.layers.BatchNormalization):
                place.layer.trainable = recipe.bn_trainable


def told(network: keras.Model) -> str:
    """How many layers of a network train.

    Args:
        network: The network.

    Returns:
        A sentence.
    """
    layers = [place.layer for place in _with_weights(network)]
    norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    resting = sum(not each.trainable for each in norms)
    count = sum(each.trainable and _learns(each) for each in layers)
    return (
        f"Trainable: {count} of {len(layers)} layers with weights; the others are frozen"
        + (f" (batch norms among them: {resting})" if resting else "")
        + "."
    )


def _learns(layer: keras.Layer) -> bool:
    """False for a layer whose rule, `frozen`, lets nothing learn."""
    rules = rules_of(layer)
    return not rules or any(rule.trains_kernel for rule in rules)


def _with_weights(network: keras.Model) -> list[Place]:
    return [
        place
        for place in walk(network)
        if place.layer.weights and not isinstance(place.layer, DirectFeedback)
    ]
