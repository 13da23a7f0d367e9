"""A network made anew from its config, with some layers exchanged and all forward weights kept."""

from collections.abc import Callable

import keras

from tfcredit.analysis.places import is_own_code
from tfcredit.convert.states import copy_states
from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle
from tfcredit.layers import FeedbackLayer
from tfcredit.layers.twins import layer_class

Exchange = Callable[[str, dict], dict]


def rebuild(model: keras.Model, exchange: Exchange) -> keras.Model:
    """Makes a network anew, not compiled, with the same forward weights.

    Args:
        model: A built model.
        exchange: Function of a layer's path and config that gives the config to use instead.

    Returns:
        The new network.

    Raises:
        UserError: The model or one of its layers can't be made from its config.
    """
    _refuse_used_variables(model)
    try:
        config = keras.saving.serialize_keras_object(model)
    except NotImplementedError as problem:
        raise _not_rebuilt(model, problem) from None
    config.pop("compile_config", None)
    config["config"] = _exchanged(config["config"], "", exchange)
    classes = {
        type(each).__name__: type(each) for each in model._flatten_layers() if is_own_code(each)
    }
    try:
        made = keras.saving.deserialize_keras_object(
            config, custom_objects=classes, safe_mode=False
        )
    except (TypeError, ValueError, NotImplementedError) as problem:
        if isinstance(problem, UserError):
            raise
        raise _not_rebuilt(model, problem) from None
    copy_forward_weights(model, made)
    return made


def _refuse_used_variables(model: keras.Model) -> None:
    """A config holds the values of a variable that a graph uses, not whose variable it is."""
    for owner in model._flatten_layers():
        for operation in getattr(owner, "operations", ()):
            for node in operation._inbound_nodes:
                for each in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)):
                    if isinstance(each, keras.Variable):
                        raise UserError(
                            f"{operation.name!r} in model {owner.name!r} is called on the variable "
                            f"{each.path!r} of another layer, which no config tells: make a layer "
                            "of your own that holds the other layer."
                        )


def copy_forward_weights(source: keras.Layer, target: keras.Layer) -> None:
    """Gives a layer or network the weights of another one, feedback kernels left out.

    With them goes all that Keras keeps elsewhere: what layers save by methods of their own, such as
    the statistics of `Normalization`, tables, the states of random generators. Feedback kernels
    that are drawn at an angle to the forward kernel are drawn again.

    Args:
        source: What has the weights.
        target: A layer or network of the same architecture.

    Raises:
        UserError: They have not the same weights, or a custom layer can't load what it saves.
    """
    old, new = forward_weights(source), forward_weights(target)
    if [tuple(v.shape) for v in old] != [tuple(v.shape) for v in new]:
        pairs = zip(old, new, strict=False)
        odd = [f"{a.path} of {a.shape}, not {b.shape}" for a, b in pairs if a.shape != b.shape]
        raise UserError(
            f"{source.name!r} has {len(old)} weights, but what its config makes has {len(new)} or "
            f"others ({odd[0] if odd else 'those behind the last one'}): its config must hold all "
            "arguments, no layer may be shared by two nested models, and custom layers must make "
            "their weights in the order of their config."
        )
    for kept, variable in zip(old, new, strict=True):
        variable.assign(keras.ops.convert_to_numpy(kept))
    copy_states(source, target)
    renew_angles(target)


def renew_angles(layer: keras.Layer) -> None:
    """Draws those feedback kernels again that start at an angle to the forward kernel.

    Args:
        layer: A layer or network whose forward kernels have got other values.
    """
    for each in layer._flatten_layers():
        if isinstance(each, FeedbackLayer) and isinstance(each.feedback_initializer, AtAngle):
            each.renew_feedback_kernel()


def forward_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The weights of a layer or network that backprop's network has too, in its order.

    Args:
        layer: The layer or network.

    Returns:
        All of `weights` but feedback kernels and their counts of steps.
    """
    own = set()
    for each in layer._flatten_layers():
        if isinstance(each, FeedbackLayer):
            own |= {id(each.feedback_kernel), id(each._step), id(each._memory)}
            own |= {id(factor) for factor in each.feedback_factors}
    return [variable for variable in layer.weights if id(variable) not in own]


def _exchanged(node, prefix: str, exchange: Exchange):
    """A config with its layers' configs exchanged, `prefix` being the path of what it is in."""
    if isinstance(node, list | tuple):
        return [_exchanged(each, prefix, exchange) for each in node]
    if not isinstance(node, dict):
        return node
    inner = node.get("config")
    if not isinstance(inner, dict) or "class_name" not in node:
        return {key: _exchanged(value, prefix, exchange) for key, value in node.items()}
    path = prefix + str(inner.get("name", ""))
    if layer_class(node) is not None:
        return exchange(path, node)
    return node | {"config": _exchanged(inner, f"{path}/" if "name" in inner else prefix, exchange)}


def _not_rebuilt(model, problem) -> UserError:
    return UserError(
        f"model {model.name!r} ({type(model).__name__}) can't be made from its config "
        f"({str(problem).strip().splitlines()[0]}): give it and its custom layers get_config and "
        "from_config, or build it with feedback layers in the first place."
    )
