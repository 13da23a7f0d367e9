"""The layers of a network whose weights stand in a product, and what keeps them on backprop."""

import dataclasses

import keras

from tfcredit.analysis.places import Place, everything, holds_own_kernels, is_own_code, own_kernels
from tfcredit.convert.products import Products, foreign_products

# Their weights of rank 2 and more stand in no product that an error travels through.
_WITHOUT_PRODUCT = (keras.layers.Embedding, keras.layers.PReLU)


def with_kernels(model: keras.Model) -> list[Place]:
    """The places of all layers whose weights stand in a product: of a rank of 2 or more.

    Args:
        model: The model.

    Returns:
        The places, those also of layers that multiply by the kernel of another layer.
    """
    places = list(everything(model))
    products = foreign_products(model, [(place.layer, place.own_variables) for place in places])
    root = Place(model.name, model, model)
    found = []
    for place in [*places, root]:
        tied = _tied(place, places, products)
        if tied is not None:
            found.append(dataclasses.replace(place, tied=tied))
        elif place is not root and _has_product(place, products):
            found.append(place)
    return found


def _has_product(place: Place, products: Products) -> bool:
    layer = place.layer
    if place.has_twin:
        return True
    if isinstance(layer, _WITHOUT_PRODUCT) or not own_kernels(layer):
        return False
    if layer._layers and not holds_own_kernels(place):
        return False
    # Of the user's own layers what they do is seen, if the network could be traced.
    return not is_own_code(layer) or not products.is_known or products.multiplies_by_own(layer)


def _tied(place: Place, places: list[Place], products: Products) -> str | None:
    """The weight that the layer multiplies by and does not own, or of an embedding."""
    layer = place.layer
    # Layers of Keras, such as recurrent ones, use the kernels of what they hold themselves.
    names = {id(each.layer): each.path for each in places if each.wrapper is None}
    others = [names[owner] for owner in products.owners_of_others(layer) if owner in names]
    if others:
        return (
            f"it multiplies by the kernel of {', '.join(map(repr, others))} in its own call, so "
            "that errors travel back through W"
        )
    if isinstance(layer, keras.layers.Embedding):
        reverse = isinstance(layer, keras.layers.ReversibleEmbedding)
        unknown = reverse and layer.tie_weights and not products.is_known
        if unknown or products.multiplies_by_own(layer):
            return "it multiplies by its own embeddings, so that errors travel back through them"
    return None
