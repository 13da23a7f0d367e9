"""The published TensorFlow 1 checkpoints of the paper, into our reference networks.

A variable is called there as here, but for the separators of the scopes and two words:
`block_group1_0/conv1/forward_kernel` is our `block_group1_0_conv1/kernel`.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit.convert.reporting import columns
from tfcredit.errors import UserError

_OUR_WORDS = {"forward_kernel": "kernel", "backward_kernel": "feedback_kernel"}
_KINDS = {*_OUR_WORDS.values(), "bias", "gamma", "beta", "moving_mean", "moving_variance"}
_LANDMARK = "dense/forward_kernel"
"""A variable that each network has once."""
_BLOCK = re.compile(r"block_(group|layer)(\d+)_(\d+)_conv(\d+)/kernel")
_SLOTS = {
    keras.optimizers.SGD: {"momentum": "Momentum"},
    keras.optimizers.Adam: {"momentum": "Adam", "velocity": "Adam_1"},
}
"""By kind of optimizer: Keras' word for a slot -> TensorFlow 1's."""


@dataclass(frozen=True)
class ReferenceReport:
    """The fate of every variable of a checkpoint; `str` makes a table of it.

    Attributes:
        checkpoint: The checkpoint's prefix.
        scope: What its names begin with, such as `model_0/`; often empty.
        network: The network's name for `models.get`.
        global_step: The step at which it was written, None if it does not say.
        matched: Path of a model variable -> name of the checkpoint's variable.
        slots: The same for the optimizer's variables, its count of steps included.
        missing: Variables of the model or the optimizer that the checkpoint lacks.
        left_over: Variables of the checkpoint that were not used.
    """

    checkpoint: str
    scope: str
    network: str
    global_step: int | None
    matched: dict[str, str]
    slots: dict[str, str]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        layers: dict[str, tuple[list[str], list[str]]] = {}
        for place, paths in enumerate((self.matched, self.missing)):
            for path in paths:
                layer, word = path.rsplit("/", 1)
                layers.setdefault(layer, ([], []))[place].append(word)
        rows = [[layer, *map(", ".join, words)] for layer, words in layers.items()]
        kinds = Counter(name.rsplit("/", 1)[-1] for name in self.left_over)
        rest = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
        return "\n".join(
            [
                columns([["layer", "loaded", "missing"], *rows]),
                "",
                f"{self.checkpoint}: {self.network}, step {self.global_step}"
                + (f", scope {self.scope}" if self.scope else ""),
                f"loaded: {len(self.matched)} variables of the model"
                + (f", {len(self.slots)} of the optimizer" if self.slots else ""),
                f"missing from the checkpoint: {len(self.missing)}",
                f"left over in the checkpoint: {rest}",
            ]
        )


@dataclass(frozen=True)
class _Network:
    """The marks of one reference network among the others: names of its convolutions."""

    preactivation: bool
    blocks: tuple[int, ...]
    convolutions: int

    @classmethod
    def of(cls, paths: Iterable[str]) -> "_Network | None":
        """The network that has variables of these paths (ours)."""
        found = [match.groups() for match in map(_BLOCK.fullmatch, paths) if match]
        if not found:
            return None
        words, groups, indexes, numbers = zip(*found, strict=True)
        blocks = Counter(group for group, _ in set(zip(map(int, groups), indexes, strict=True)))
        return cls("layer" in words, tuple(blocks[g] for g in sorted(blocks)), int(max(numbers)))

    @property
    def name(self) -> str:
        depth = 2 + self.convolutions * sum(self.blocks)
        return f"resnet{depth}{'v2' * self.preactivation}"

    def __str__(self) -> str:
        blocks = ", ".join(map(str, self.blocks))
        return f"{self.name} (groups of {blocks} blocks with {self.convolutions} convolutions)"


def our_path(name: str) -> str:
    """The path of our variable.

    Args:
        name: Name of the authors' variable, without a prefix of its own.

    Returns:
        Layer and variable.

    Example:
        >>> our_path("block_group1_0/conv1/backward_kernel")
        'block_group1_0_conv1/feedback_kernel'
    """
    *scopes, variable = name.split("/")
    return f"{'_'.join(scopes)}/{_OUR_WORDS.get(variable, variable)}"


def is_transposed(name: str) -> bool:
    """True if the authors store this variable, or a slot of it, as `[units, inputs]`.

    Args:
        name: Its name.

    Returns:
        True for the feedback kernel of the dense layer.
    """
    return re.search(r"(^|/)dense/backward_kernel(/|$)", name) is not None


def load_reference_checkpoint(
    model: keras.Model,
    prefix: str | os.PathLike,
    *,
    scope: str | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> ReferenceReport:
    """Loads a TensorFlow 1 checkpoint in the format of the paper's authors.

    If anything is wrong, nothing is changed: all is read and compared before it is assigned.

    A feedback kernel that the checkpoint lacks stays as it is and is reported as missing; those of
    the checkpoint that the model has no use for, as under backprop, are left over.

    An optimizer continues where the checkpoint's left off. The momentum of Keras' SGD contains the
    learning rate and TensorFlow 1's does not, so it is multiplied by the negative of the rate
    that `optimizer` has at the checkpoint's step.

    Args:
        model: A residual network of `models.get`, of the checkpoint's depth and version.
        prefix: What the files' names have in common, `.../model.ckpt-450360`; or a folder with a
            file `checkpoint`, which names the latest.
        scope: What the names of the network's variables begin with, such as `model_0/`; found by
            itself unless the checkpoint holds several networks.
        optimizer: An optimizer of the model's variables to load slots into, too: SGD with momentum,
            Adam, or `PartitionedOptimizer` of these. By default slots are left over.

    Returns:
        What was loaded, what is missing and what is left over.

    Raises:
        UserError: The files are missing or damaged, they hold another network or none of the
            authors', or the model or the optimizer is of another kind.
    """
    ours = {f"{v.name}/{w.name}": w for v in model.layers for w in v.variables if w.name in _KINDS}
    wanted = _Network.of(ours)
    if wanted is None:
        raise UserError(
            f"The model {model.name!r} is no reference residual network; build one with "
            "tfcredit.models.get, such as models.get('resnet18')."
        )
    family = _family(optimizer)
    checkpoint = _Checkpoint(prefix)
    scope = checkpoint.scope(scope)
    matched = _matched(checkpoint, scope, ours, wanted)
    candidates = [slot for each in family for slot in _slots(each, model, ours, matched)]
    found = [slot for slot in candidates if slot.name in checkpoint.shapes]
    step_name = next((n for n in (f"{scope}global_step", "global_step") if n in checkpoint), None)

    step = None if step_name is None else int(checkpoint.read(step_name))
    values = {path: checkpoint.read(name, ours[path]) for path, name in matched.items()}
    slot_values = [checkpoint.read(slot.name, slot.variable) for slot in found]
    for path, value in values.items():
        ours[path].assign(value)
    for each in family if step is not None else ():
        each.iterations.assign(step)
    for slot, value in zip(found, slot_values, strict=True):
        slot.assign(value)
    slots = {slot.variable.path: slot.name for slot in found}
    absent = [slot.variable.path for slot in candidates if slot not in found]
    used = {*matched.values(), *slots.values(), step_name}
    return ReferenceReport(
        checkpoint=checkpoint.prefix,
        scope=scope,
        network=wanted.name,
        global_step=step,
        matched=matched,
        slots=slots,
        missing=(*(path for path in ours if path not in matched), *absent),
        left_over=tuple(name for name in sorted(checkpoint.shapes) if name not in used),
    )


def reference_network(prefix: str | os.PathLike, *, scope: str | None = None) -> dict[str, Any]:
    """Which network a checkpoint of the paper's authors holds.

    Args:
        prefix: As for `load_reference_checkpoint`.
        scope: Likewise.

    Returns:
        Arguments of `models.get`: `name`, `classes` and `input_shape`, the images of 224 x 224
        pixels, 299 x 299 for networks of version 2.

    Raises:
        UserError: The files are missing or damaged, or hold no network of the authors'.
    """
    checkpoint = _Checkpoint(prefix)
    scope = checkpoint.scope(scope)
    network, names = _network_in(checkpoint, scope)
    size = 299 if network.preactivation else 224
    channels = checkpoint.shapes[names["conv0/kernel"]][-2] if "conv0/kernel" in names else 3
    return {
        "name": network.name,
        "classes": checkpoint.shapes[scope + _LANDMARK][-1],
        "input_shape": (size, size, channels),
    }


def _network_in(checkpoint: "_Checkpoint", scope: str) -> tuple[_Network, dict[str, str]]:
    """The network in a scope, and our path -> the authors' name of its variables."""
    theirs = {
        our_path(name.removeprefix(scope)): name
        for name in checkpoint.shapes
        if name.startswith(scope)
    }
    found = _Network.of(theirs)
    if found is None:
        raise UserError(f"{checkpoint.prefix} holds no residual blocks: give one of the authors'.")
    return found, theirs


def _matched(
    checkpoint: "_Checkpoint", scope: str, ours: dict[str, Any], wanted: _Network
) -> dict[str, str]:
    """Our path -> the authors' name, of all that both have, if it is the same network."""
    found, theirs = _network_in(checkpoint, scope)
    if found != wanted:
        raise UserError(
            f"{checkpoint.prefix} holds a {found}, but the model is a {wanted}: load it into "
            f"models.get({found.name!r})."
        )
    lacking = [
        path for path in ours if path not in theirs and not path.endswith("/feedback_kernel")
    ]
    if lacking:
        raise UserError(
            f"{checkpoint.prefix} lacks {len(lacking)} of the model's variables, such as "
            f"{lacking[0]}: it is no complete {wanted.name} of the paper's code."
        )
    return {path: theirs[path] for path in ours if path in theirs}


@dataclass(frozen=True, eq=False)
class _Slot:
    """A variable that an optimizer keeps for a kernel, and its name in the checkpoint."""

    optimizer: keras.optimizers.Optimizer
    variable: Any
    name: str

    def assign(self, value: np.ndarray) -> None:
        if isinstance(self.optimizer, keras.optimizers.SGD):
            value = -float(self.optimizer.learning_rate) * value
        self.variable.assign(value)


def _family(optimizer: keras.optimizers.Optimizer | None) -> list[keras.optimizers.Optimizer]:
    """The optimizer and all inside it, each of a kind whose slots are known."""
    if optimizer is None:
        return []
    inner = getattr(optimizer, "inner_optimizers", ())
    if not inner and not isinstance(optimizer, tuple(_SLOTS)):
        raise UserError(
            f"The slots of {type(optimizer).__name__} have no counterpart here: give SGD, Adam or "
            "a PartitionedOptimizer of these, or no optimizer."
        )
    return [optimizer, *(each for part in inner for each in _family(part))]


def _slots(
    optimizer: keras.optimizers.Optimizer,
    model: keras.Model,
    ours: dict[str, Any],
    matched: dict[str, str],
) -> list[_Slot]:
    """The slots that the optimizer itself has for variables of the model."""
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    own = {variable.path.rsplit("/", 1)[-1]: variable for variable in optimizer.variables}
    kind = next((kind for kind in _SLOTS if isinstance(optimizer, kind)), None)
    slots = []
    for path, name in matched.items():
        for ending, word in _SLOTS.get(kind, {}).items():
            variable = own.get(f"{ours[path].path.replace('/', '_')}_{ending}")
            if variable is not None:
                slots.append(_Slot(optimizer, variable, f"{name}/{word}"))
    return slots


class _Checkpoint:
    """A TensorFlow checkpoint whose mistakes are told to the user.

    Args:
        prefix: As the user gave it.
    """

    def __init__(self, prefix: str | os.PathLike):
        self.prefix = _checked_prefix(os.fspath(prefix))
        self._reader = self._try(lambda: tf.train.load_checkpoint(self.prefix))
        self.shapes = self._try(self._reader.get_variable_to_shape_map)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def scope(self, given: str | None) -> str:
        """The beginning of the names of the network's variables."""
        scopes = [
            name.removesuffix(_LANDMARK)
            for name in sorted(self.shapes)
            if name == _LANDMARK or name.endswith(f"/{_LANDMARK}")
        ]
        if not scopes:
            raise UserError(
                f"{self.prefix} has no variable {_LANDMARK}: give a checkpoint of the paper's code."
            )
        listed = ", ".join(repr(scope) for scope in scopes)
        if given is None and len(scopes) > 1:
            raise UserError(f"{self.prefix} holds several networks: give scope, one of {listed}.")
        if given is None:
            return scopes[0]
        scope = given if not given or given.endswith("/") else f"{given}/"
        if scope not in scopes:
            raise UserError(f"{self.prefix} holds no network in scope {given!r}, but in {listed}.")
        return scope

    def read(self, name: str, variable: Any = None) -> np.ndarray:
        """The value, oriented as ours and of the shape of `variable` if that is given."""
        shape = tuple(self.shapes[name])
        turned = shape[::-1] if is_transposed(name) else shape
        if variable is not None and turned != tuple(variable.shape):
            raise UserError(
                f"{name} in {self.prefix} has the shape {shape}, which does not fit the model's "
                f"{variable.path} of {tuple(variable.shape)}: build the model with the same "
                "number of classes and channels."
            )
        value = self._try(lambda: self._reader.get_tensor(name))
        return value.T if is_transposed(name) else value

    def _try(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as problem:
            raise UserError(
                f"{self.prefix} is damaged or incomplete ({str(problem).splitlines()[0]}): copy "
                f"{self.prefix}.index and all of {self.prefix}.data-* again."
            ) from None


def _checked_prefix(given: str) -> str:
    """The prefix of a checkpoint whose index is there."""
    part = re.fullmatch(r"(.+)\.(index|meta|data-\d+-of-\d+)", given)
    if part:
        raise UserError(f"{given} is one file of a checkpoint: give the prefix, {part[1]}.")
    if tf.io.gfile.isdir(given):
        latest = tf.train.latest_checkpoint(given)
        if latest is not None:
            return latest
        indexes = sorted(tf.io.gfile.glob(os.path.join(given, "*.index")))
        hint = ", ".join(index.removesuffix(".index") for index in indexes)
        raise UserError(
            f"{given} is a folder without a usable file 'checkpoint': give a checkpoint's prefix"
            + (f", one of {hint}." if hint else ", such as .../model.ckpt-450360.")
        )
    if not tf.io.gfile.exists(f"{given}.index"):
        raise UserError(
            f"{given}.index is missing: give the prefix that a checkpoint's files have in common, "
            "such as .../model.ckpt-450360."
        )
    return given
