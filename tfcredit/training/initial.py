"""Initial weights of a run: those of a file, of another run, or of one of its checkpoints."""

import contextlib
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from tfcredit import models
from tfcredit.analysis import feedback_layers
from tfcredit.analysis.alignment import labels
from tfcredit.analysis.places import Place, everything
from tfcredit.convert import load_reference_checkpoint, reference_network, to_backprop
from tfcredit.convert.states import refresh
from tfcredit.errors import UserError
from tfcredit.files import scratch
from tfcredit.layers import FeedbackLayer
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.saved import NETWORK, Saved
from tfcredit.training.state import variables_of

HDF5 = (".h5", ".hdf5")
"""The endings of files of weights, and of whole models in the format of Keras 2."""

OF_TRAINING = ("optimizer", "metrics")
"""Groups of a `.weights.h5` file, in which a compiled model keeps what is of no layer."""


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
        path: A `.keras`, `.weights.h5` or `.h5` file, a run, one of its checkpoints, or the
            prefix of a TensorFlow 1 checkpoint of the paper's authors.
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
    saved, how = None, ""
    if path.suffix in HDF5:
        source, how = _of_weights_file(path, wanted, make)
    elif _is_reference(path):
        source, how = _of_reference(path, network.name)
    else:
        saved = Saved.at(path)
        source = _without_owner(saved.weights())
    _check(path, source, targets, wanted, dropped)
    for name in wanted:
        targets[name].assign(source[name])
    refresh(network)
    taken, layers, label = 0, feedback_layers(network), labels(network)
    chosen = _chosen_places(network)
    for layer in layers:
        place = chosen[id(layer)]
        names = label[id(layer)]["layer"], place.path, place.layer.name
        taken += layer.name != dropped and _give_feedback(layer, names, source, saved)
    for name, variable in targets.items():  # what errors travel through beside layers
        direct = "/feedback_kernel_" in name and name in source
        if direct and source[name].shape == tuple(variable.shape):
            variable.assign(source[name])
    names = dict.fromkeys(map(_layer, forward))
    told = f"{len(dict.fromkeys(map(_layer, wanted)))} of {len(names)} layers"
    told += f", all but {dropped}, which is drawn" if dropped else ""
    if layers:
        told += f"; {taken} of {len(layers)} feedback kernels"
        told += ", the others start anew" if taken < len(layers) else ""
    return f"Initial weights of {path}{how}: {told}."


def _give_feedback(
    layer: FeedbackLayer,
    names: Sequence[str],
    source: Mapping[str, np.ndarray],
    saved: Saved | None,
) -> bool:
    """Give a layer its feedback kernel and the memory of its rule, or start them anew.

    It has the names that `Saved.rule_of` takes.
    """
    kept = layer.feedback_kernel, layer.rule_memory, *layer.feedback_factors
    own = {v.path: v for v in kept if v is not None}
    if not own:
        return False
    fits = all(name in source and source[name].shape == tuple(v.shape) for name, v in own.items())
    if fits and layer.rule.start_angle is not None:
        fits = saved is not None and saved.rule_of(*names) == layer.rule
    if not fits:
        layer.renew_feedback_kernel()
        return False
    for name, variable in own.items():
        variable.assign(source[name])
    return True


def _chosen_places(network: keras.Model) -> dict[int, Place]:
    """Of each layer's id the place that patterns mean by it: that of the layer it is a part of."""
    found: dict[int, Place] = {}
    for place in everything(network):
        for each in place.layer._flatten_layers():
            found.setdefault(id(each), place)  # what holds others comes behind them
    return found


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
) -> tuple[dict[str, np.ndarray], str]:
    """The variables of an HDF5 file, of feedback layers or of Keras' own; and how they were found.

    A file of Keras 3 has no names of layers, so that Keras reads it into networks of both kinds.
    One of Keras 2, weights or a whole model, has names; those that Keras has counted, such as
    dense_7, may be others than the network's, so that it is read by the layers' order too. What
    Keras leaves as it was is not in the file.
    """
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            legacy = group is not file or _of_keras_2(group)
            count = _datasets(group)
    except OSError as problem:
        what = "is missing" if not path.exists() else f"can't be read ({problem})"
        raise UserError(f"{path} {what}, but weights were expected: check the path.") from None
    ways = {"": {"by_name": True}, " by the order of layers": {}} if legacy else {"": {}}
    read: list[tuple[dict[str, np.ndarray], str]] = []
    for twin in (network := make(), to_backprop(network)):
        for how, options in ways.items():
            with _with_ending(path, legacy) as file:
                found = _read(twin, file, options)
            read.append(({} if count > len(twin.variables) else found, how))
    best = max(read, key=lambda one: sum(name in one[0] for name in wanted))
    if not best[0]:
        raise UserError(
            f"{path} is of another network, with {count} variables: give weights of this --model."
        )
    return best


def _read(network: keras.Model, path: Path, options: Mapping[str, bool]) -> dict[str, np.ndarray]:
    """The variables that Keras reads from a file into a network, which it changes."""
    named = _without_owner(variables_of("network", network))
    for name, variable in named.items():
        if _is_forward(name, variable):
            variable.assign(np.full(variable.shape, math.nan, variable.dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of each layer that does not fit
        try:
            network.load_weights(path, skip_mismatch=True, **options)
        except ValueError:  # by order: another number of layers or of a layer's variables
            return {}
    values = {name: variable.numpy() for name, variable in named.items()}
    return {name: value for name, value in values.items() if not _is_unread(value)}


def _of_keras_2(group: h5py.Group) -> bool:
    return any(name.startswith("layer_names") for name in group.attrs)


@contextlib.contextmanager
def _with_ending(path: Path, legacy: bool) -> Iterator[Path]:
    """A file under a name by which Keras 3 knows the format: .weights.h5 is its own for it."""
    if not legacy or not path.name.endswith(".weights.h5"):
        yield path
        return
    with scratch() as folder:
        link = Path(folder, "legacy.h5")
        link.symlink_to(path.resolve())
        yield link


def _is_reference(path: Path) -> bool:
    """True for a TensorFlow checkpoint, or a folder of such, that is of no run."""
    if any(RunDirectory(folder).holds_run() for folder in (path, *path.parents)):
        return False
    return path.with_name(f"{path.name}.index").is_file() or (path / "checkpoint").is_file()


def _of_reference(path: Path, name: str) -> tuple[dict[str, np.ndarray], str]:
    """The variables of a checkpoint of the paper's authors, and what it is of."""
    made = reference_network(path)
    if made["name"] != name:
        raise UserError(
            f"{path} holds a {made['name']} of the paper's authors, but the network is {name!r}: "
            f"give --model={made['name']}."
        )
    network = models.get(**made, rule="feedback_alignment")  # a rule with feedback kernels
    report = load_reference_checkpoint(network, path)
    found = _without_owner(variables_of("network", network))
    values = {name: variable.numpy() for name, variable in found.items() if name in report.matched}
    return values, f" ({report.network}, step {report.global_step})"


def _datasets(group, left_out: Collection[str] = OF_TRAINING) -> int:
    """The number of a network's arrays in a group of a file and below it."""
    return sum(
        1 if isinstance(one, h5py.Dataset) else _datasets(one, ())
        for name, one in group.items()
        if name not in left_out
    )


def _is_unread(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).any())
