"""Networks with what rules need beyond a layer: depth, direct feedback, node perturbation."""

from collections.abc import Iterator
from typing import Any

import keras

from tfcredit.errors import UserError
from tfcredit.layers import CompositeLayer, DirectFeedback, FeedbackLayer
from tfcredit.layers.cells import RecurrentComposite
from tfcredit.models.perturbation import PerturbedNetwork
from tfcredit.rules import NodePerturbation


def wire(
    model: keras.Model, feedback_initializer: Any = None, seed: int | None = None
) -> keras.Model:
    """A network with what its layers need beyond themselves in order to learn.

    Rules are told the number of layers with feedback kernels, in place (`Rule.in_network`). Of
    layers of the rule `frozen` the one that gives the output of a functional or sequential model
    learns by backprop.

    For layers of a `tfcredit.rules.DirectRule`, as `direct_feedback_alignment`, it ends in a
    `tfcredit.layers.DirectFeedback` that joins the logits with these layers' inputs, as far as
    anything below has weights; one feedback kernel for each activity, also where two such layers
    take it. With the rule
    `node_perturbation` it is a `tfcredit.models.PerturbedNetwork`.

    Args:
        model: A functional or sequential model whose one output is, for direct feedback, that of a
            layer without activation, such as a dense layer's logits.
        feedback_initializer: See `tfcredit.layers.DirectFeedback`.
        seed: Likewise.

    Returns:
        A functional model of the same layers, not compiled; `model` itself if it needs nothing.

    Raises:
        UserError: The model is of another kind, wired already, has several outputs or one with an
            activation, or such a layer inside of a nested model or a custom layer; two direct rules
            are to send to one activity; or `PerturbedNetwork` refuses it.

    Example:
        >>> from tfcredit import layers
        >>> dense = [layers.Dense(n, rule="direct_feedback_alignment") for n in (16, 3)]
        >>> network = wire(keras.Sequential([keras.Input((8,)), *dense]), seed=1)
        >>> [tuple(kernel.shape) for kernel in network.layers[-1].feedback_kernels]
        [(3, 16)]
    """
    inner = model._flatten_layers(include_self=False)
    fed_back = [layer for layer in inner if isinstance(layer, FeedbackLayer)]
    count = sum(layer.rule.has_feedback_kernel for layer in fed_back)
    for layer in inner:
        if isinstance(layer, FeedbackLayer | CompositeLayer):
            layer.rule = layer.rule.in_network(count)
        if isinstance(layer, RecurrentComposite):
            layer.recurrent_rule = layer.recurrent_rule.in_network(count)
    if not all(layer.rule.trains_kernel for layer in fed_back):
        for top in _top_layers(model):
            top.thaw()
    silent = [layer for layer in fed_back if not layer.rule.sends_error]
    if not silent:
        return model
    graph = _graph(model)
    for layer in silent:
        if layer not in graph.operations:
            raise UserError(
                f"layer {layer.name!r} is inside of another layer or model in {model.name!r}, "
                f"where rule {layer.rule.name!r} does not reach it: give it another rule, or take "
                "it out of what holds it."
            )
    if any(isinstance(layer.rule, NodePerturbation) for layer in silent):
        return PerturbedNetwork(graph.input, graph.output, name=model.name)
    hidden, rules = _hearing(graph, silent)
    if not hidden:
        return model
    direct = DirectFeedback(feedback_initializer, seed, rules, name="direct_feedback")
    outputs = direct([_logits(graph), *hidden])
    return keras.Model(graph.input, outputs, name=model.name)


def _hearing(graph: keras.Model, silent: list[FeedbackLayer]) -> tuple[list, list]:
    """The activities that direct feedback sends to, and the rule of each."""
    hidden, above_weights = {}, set()
    for node in _nodes(graph):
        learned = [each for each in node.input_tensors if id(each) in above_weights]
        for each in learned if node.operation in silent else ():
            rule = node.operation.rule
            _, other = hidden.setdefault(id(each), (each, rule))
            if other != rule:
                raise UserError(
                    f"layer {node.operation.name!r} has {rule!r}, but another layer on the same "
                    f"input has {other!r}: give both the same rule, as one signal is sent there."
                )
        if learned or getattr(node.operation, "weights", None):
            above_weights |= {id(each) for each in node.output_tensors}
    pairs = list(hidden.values())
    return [activity for activity, _ in pairs], [rule for _, rule in pairs]


def unwire(model: keras.Model) -> keras.Model:
    """A network without what `wire` has added.

    Args:
        model: Any model.

    Returns:
        A functional model of the same layers, not compiled; `model` itself if nothing was added.

    Raises:
        UserError: The direct feedback or perturbation is inside of the model, not at its output.
    """
    plain = model
    if isinstance(model, PerturbedNetwork):
        plain = keras.Model(model.input, model.output, name=model.name)
    elif type(model) is type(_functional(model)) and len(model.outputs) == 1:
        node = _source(model.outputs[0])
        if isinstance(node.operation, DirectFeedback):
            plain = keras.Model(model.input, node.input_tensors[0], name=model.name)
    if _is_wired(plain):
        raise UserError(
            f"model {model.name!r} has direct feedback or node perturbation elsewhere than at its "
            "output: give the network that has it there."
        )
    return plain


def _is_wired(model: keras.Model) -> bool:
    layers = model._flatten_layers()
    return any(isinstance(layer, DirectFeedback | PerturbedNetwork) for layer in layers)


def _functional(model: keras.Model) -> keras.Model | None:
    """A functional or sequential model as a functional one, of a node for each call of a layer."""
    if type(model) is keras.Sequential and model.built and getattr(model, "inputs", None):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    functional = type(model).__module__.startswith("keras.") and hasattr(model, "operations")
    return model if functional else None


def _graph(model: keras.Model) -> keras.Model:
    """The model as a functional one of one output that is not wired."""
    if _is_wired(model):
        raise UserError(f"model {model.name!r} is wired already: do it once.")
    graph = _functional(model)
    if graph is None and hasattr(model, "operations"):
        raise UserError(
            f"model {model.name!r} is a functional model of a class of its own, "
            f"{type(model).__name__}, in whose place rules that send no error down would put a "
            "plain one: give keras.Model(model.input, model.output), or take another rule."
        )
    if graph is None:
        raise UserError(
            f"model {model.name!r} ({type(model).__name__}) does not tell how its layers follow "
            "each other, which rules that send no error down need to know: give a functional or "
            "sequential model with a keras.Input."
        )
    if len(graph.outputs) != 1:
        raise UserError(
            f"rules that send no error down learn from one output, but model {graph.name!r} has "
            f"{len(graph.outputs)}: join them, or take another rule."
        )
    return graph


def _logits(graph: keras.Model):
    """The output, whose error direct feedback sends."""
    layer = _source(graph.outputs[0]).operation
    if getattr(layer, "activation", None) is not keras.activations.linear:
        raise UserError(
            f"direct feedback sends the error at the logits, but model {graph.name!r} ends in "
            f"{layer.name!r} ({type(layer).__name__}), which is no layer without activation: leave "
            "its nonlinearity to the loss (from_logits=True)."
        )
    return graph.outputs[0]


def _top_layers(model: keras.Model) -> list[FeedbackLayer]:
    """The feedback layers behind which a functional network has no other weights."""
    graph = _functional(model)
    tensors = [] if graph is None else list(graph.outputs)
    found = []
    while tensors:
        node = _source(tensors.pop())
        layer = node.operation
        inner = _functional(layer) if isinstance(layer, keras.Model) else None
        if isinstance(layer, FeedbackLayer):
            found.append(layer)
        elif inner is not None:
            tensors += inner.outputs
        elif not getattr(layer, "weights", None):
            tensors += node.input_tensors
    return found


def _source(tensor):
    """The call of a layer that gave a tensor of a functional model."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _nodes(graph: keras.Model) -> Iterator:
    """The calls of a functional model's layers, each behind those whose outputs it takes."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]
