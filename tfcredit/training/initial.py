"""Initial weights of a run: those of a file, of another run, or of one of its checkpoints."""

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

from tfcredit.analysis import feedback_layers
from tfcredit.convert import to_backprop
from tfcredit.errors import UserError
from tfcredit.layers import FeedbackLayer
from tfcredit.rules import Rule, serialize
from tfcredit.training.saved import NETWORK, Saved
from tfcredit.training.state import variables_of

WEIGHTS = ".weights.h5"
"""The ending of files that `save_weights` writes."""


def start_from(
    network: keras.Model, path: Path, drop_head: bool, make: Callable[[], keras.Model]
) -> str:
    """Give a network the weights of another one of the same layers.

    Every layer gets its forward weights. It also gets its feedback kernel where the other one has
    one that fits; under a rule that states the angle at which it starts, of the same rule only.
    Where it has none, a feedback kernel that starts from the forward kernel starts from the new
    one; others stay as they were drawn, and their rules align them.

    Args:
        network: The network; left as it is if the weights do not fit.
        path: A `.keras` or `.weights.h5` file, a run directory, or a checkpoint of a run.
        drop_head: True to leave the last layer as it was drawn, so that it may have other classes.
        make: Makes another network like it, to read `.weights.h5` files with.

    Returns:
        A sentence that says what matched.

    Raises:
        UserError: The weights can't be read, or are of another network.
    """
    targets = _without_owner(variables_of("network", network))
    forward = [name for name, variable in targets.items() if _is_forward(name, variable)]
    dropped = _layer(forward[-1]) if drop_head else None
    wanted = [name for name in forward if _layer(name) != dropped]
    if path.name.endswith(WEIGHTS):
        source, rules = _of_weights_file(path, wanted, make), {}
    else:
        saved = Saved.at(path)
        source, rules = _without_owner(saved.weights()), saved.rules()
    _check(path, source, targets, wanted, dropped)
    for name in wanted:
        targets[name].assign(source[name])
    taken, layers = 0, feedback_layers(network)
    for layer in layers:
        taken += layer.name != dropped and _give_feedback(layer, source, rules)
    for name, variable in targets.items():  # what errors travel through beside layers
        direct = "/feedback_kernel_" in name and name in source
        if direct and source[name].shape == tuple(variable.shape):
            variable.assign(source[name])
    names = dict.fromkeys(map(_layer, forward))
    told = f"{len(dict.fromkeys(map(_layer, wanted)))} of {len(names)} layers"
    told += f", all but {dropped}, which is drawn" if dropped else ""
    if layers:
        told += f"; {taken} of {len(layers)} feedback kernels, the others start anew"
    return f"Initial weights of {path}: {told}."


def _give_feedback(
    layer: FeedbackLayer, source: Mapping[str, np.ndarray], rules: Mapping[str, Rule]
) -> bool:
    """Give a layer the feedback kernel and the memory of its rule, or start them anew."""
    kept = layer.feedback_kernel, layer.rule_memory, *layer.feedback_factors
    own = {v.path: v for v in kept if v is not None}
    if not own:
        return False
    fits = all(name in source and source[name].shape == tuple(v.shape) for name, v in own.items())
    if fits and layer.rule.start_angle is not None:
        rule = rules.get(layer.name, rules.get(""))
        fits = rule is not None and serialize(rule) == serialize(layer.rule)
    if not fits:
        layer.renew_feedback_kernel()
        return False
    for name, variable in own.items():
        variable.assign(source[name])
    return True


def _without_owner(named: Mapping) -> dict:
    return {name.removeprefix(NETWORK): value for name, value in named.items()}


def _layer(name: str) -> str:
    return name.rpartition("/")[0]


def _is_forward(name: str, variable) -> bool:
    """True for kernels, biases and statistics, which a network trained by backprop has too."""
    kind = name.rpartition("/")[2]
    is_number = keras.backend.is_float_dtype(keras.backend.standardize_dtype(variable.dtype))
    return is_number and not kind.startswith("feedback_") and kind != "rule_memory"


def _check(
    path: Path,
    source: Mapping[str, np.ndarray],
    targets: Mapping[str, keras.Variable],
    wanted: Collection[str],
    dropped: str | None,
) -> None:
    """Refuse weights of another network, and say which layers differ."""
    differ: dict[str, str] = {}
    for name in wanted:
        layer, kind, shape = _layer(name), name.rpartition("/")[2], tuple(targets[name].shape)
        if name not in source:
            differ.setdefault(layer, f"{layer} has no {kind}")
        elif source[name].shape != shape:
            was = tuple(source[name].shape)
            differ.setdefault(layer, f"{layer} has a {kind} of shape {was}, not {shape}")
    known = {_layer(name) for name in targets}
    others = {_layer(name) for name, value in source.items() if _is_forward(name, value)} - known
    if dropped is None or len(others) > 1:  # the last layer may have another name there
        differ |= {layer: f"{layer} is not in this network" for layer in sorted(others)}
    if not differ:
        return
    head = _layer([name for name in targets if _is_forward(name, targets[name])][-1])
    remedy = "give weights of this --model and size of images"
    if set(differ) == {head}:
        remedy = "give --initial_head=drop to draw the last layer anew"
    told = list(differ.values())
    more = f", and {len(told) - 3} more layers differ" if len(told) > 3 else ""
    raise UserError(f"{path} is of another network: {'; '.join(told[:3])}{more}: {remedy}.")


def _of_weights_file(
    path: Path, wanted: Collection[str], make: Callable[[], keras.Model]
) -> dict[str, np.ndarray]:
    """The variables of a file that `save_weights` wrote, of feedback layers or of Keras' own.

    Such a file has no names of layers, so that Keras reads it into networks of both kinds. What
    it leaves as it was is not in the file.
    """
    try:
        with h5py.File(path) as file:
            count = _datasets(file)
    except OSError as problem:
        what = "is missing" if not path.exists() else f"can't be read ({problem})"
        raise UserError(f"{path} {what}, but weights were expected: check the path.") from None
    read = []
    for twin in (network := make(), to_backprop(network)):
        named = _without_owner(variables_of("network", twin))
        for name, variable in named.items():
            if _is_forward(name, variable):
                variable.assign(np.full(variable.shape, math.nan, variable.dtype))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each layer that does not fit
            twin.load_weights(path, skip_mismatch=True)
        found = {name: variable.numpy() for name, variable in named.items()}
        read.append({name: value for name, value in found.items() if not _is_unread(value)})
        if count > len(named):
            read[-1] = {}
    best = max(read, key=lambda one: sum(name in one for name in wanted))
    if not best:
        raise UserError(
            f"{path} is of another network, with {count} variables: give weights of this --model."
        )
    return best


def _datasets(group) -> int:
    """The number of arrays in a group of a file and below it."""
    return sum(1 if isinstance(one, h5py.Dataset) else _datasets(one) for one in group.values())


def _is_unread(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).any())
