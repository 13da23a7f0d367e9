"""Networks whose output error goes straight to their layers, and the same without."""

from collections.abc import Iterator

import keras

from tfcredit.errors import UserError
from tfcredit.layers import DirectFeedback, FeedbackLayer


def add_direct_feedback(
    model: keras.Model, feedback_initializer=None, seed: int | None = None
) -> keras.Model:
    """A network with a `DirectFeedback` layer for its layers that send no error down.

    It joins the logits with the inputs of all layers whose rule is `direct_feedback_alignment`, as
    far as anything below them has weights; one feedback kernel for each activity, also where two
    such layers take it.

    Args:
        model: A functional or sequential model whose one output is that of a layer without
            activation, such as a dense layer's logits.
        feedback_initializer: See `tfcredit.layers.DirectFeedback`.
        seed: Likewise.

    Returns:
        A functional model of the same layers, not compiled; `model` itself if it has nothing to
        join.

    Raises:
        UserError: The model is of another kind, has several outputs or one with an activation, has
            direct feedback already, or such a layer inside of a nested model or a custom layer.

    Example:
        >>> from tfcredit import layers
        >>> dense = [layers.Dense(n, rule="direct_feedback_alignment") for n in (16, 3)]
        >>> network = add_direct_feedback(keras.Sequential([keras.Input((8,)), *dense]), seed=1)
        >>> [tuple(kernel.shape) for kernel in network.layers[-1].feedback_kernels]
        [(3, 16)]
    """
    silent = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, FeedbackLayer) and not layer.rule.sends_error
    ]
    if not silent:
        return model
    graph = _graph(model)
    for layer in silent:
        if layer not in graph.operations:
            raise UserError(
                f"layer {layer.name!r} is inside of another layer or model in {model.name!r}, "
                f"where no direct feedback arrives: give it another rule than {layer.rule.name!r}, "
                "or take it out of what holds it."
            )
    hidden, above_weights = {}, set()
    for node in _nodes(graph):
        learned = [each for each in node.input_tensors if id(each) in above_weights]
        if node.operation in silent:
            hidden |= {id(each): each for each in learned}
        if learned or getattr(node.operation, "weights", None):
            above_weights |= {id(each) for each in node.output_tensors}
    if not hidden:
        return model
    direct = DirectFeedback(feedback_initializer, seed, name="direct_feedback")
    outputs = direct([_logits(graph), *hidden.values()])
    return keras.Model(graph.input, outputs, name=model.name)


def remove_direct_feedback(model: keras.Model) -> keras.Model:
    """A network without the `DirectFeedback` layer that it ends in.

    Args:
        model: Any model.

    Returns:
        A functional model of the same layers, not compiled; `model` itself if it has no such layer.

    Raises:
        UserError: The layer is elsewhere than at the output.
    """
    if not _has_direct_feedback(model):
        return model
    node = None if len(model.outputs) > 1 else _source(model.outputs[0])
    if node is not None and isinstance(node.operation, DirectFeedback):
        plain = keras.Model(model.input, node.input_tensors[0], name=model.name)
        if not _has_direct_feedback(plain):
            return plain
    raise UserError(
        f"model {model.name!r} has direct feedback elsewhere than at its output: give the network "
        "that ends in it."
    )


def _has_direct_feedback(model: keras.Model) -> bool:
    return any(isinstance(layer, DirectFeedback) for layer in model._flatten_layers())


def _graph(model: keras.Model) -> keras.Model:
    """The model as a functional one, of a node for each call of a layer."""
    graph = model
    if type(model) is keras.Sequential and model.built and model.inputs:
        graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not type(graph).__module__.startswith("keras.") or isinstance(graph, keras.Sequential):
        raise UserError(
            f"direct feedback needs to know how layers follow each other, which model "
            f"{model.name!r} ({type(model).__name__}) does not tell: give a functional or "
            "sequential model with a keras.Input."
        )
    if _has_direct_feedback(model):
        raise UserError(f"model {model.name!r} has direct feedback already: add it once.")
    return graph


def _logits(graph: keras.Model):
    """The output, whose error is sent."""
    if len(graph.outputs) != 1:
        raise UserError(
            f"direct feedback sends the error of one output, but model {graph.name!r} has "
            f"{len(graph.outputs)}: join them, or take another rule."
        )
    layer = _source(graph.outputs[0]).operation
    if getattr(layer, "activation", None) is not keras.activations.linear:
        raise UserError(
            f"direct feedback sends the error at the logits, but model {graph.name!r} ends in "
            f"{layer.name!r} ({type(layer).__name__}), which is no layer without activation: leave "
            "its nonlinearity to the loss (from_logits=True)."
        )
    return graph.outputs[0]


def _source(tensor):
    """The call of a layer that gave a tensor of a functional model."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _nodes(graph: keras.Model) -> Iterator:
    """The calls of a functional model's layers, each behind those whose outputs it takes."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]
