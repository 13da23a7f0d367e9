"""Networks of the user's own: what `--model` names, and what Python gives `tfcredit.train`."""

import dataclasses
import hashlib
import inspect
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras

from tfcredit import convert, models
from tfcredit.convert.drawing import redraw
from tfcredit.convert.places import with_kernels
from tfcredit.convert.rebuild import rebuild
from tfcredit.errors import UserError
from tfcredit.files import place
from tfcredit.seeding import derive
from tfcredit.training.imports import import_function, import_own, told
from tfcredit.training.recipe import PRECISIONS, Recipe

FUNCTION = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")
"""`FILE.py:FUNCTION` or `MODULE:FUNCTION`."""


def is_own(model: str | None) -> bool:
    """True for a value of `--model` that names a file or a function."""
    return is_function(model) or Path(model or "").suffix in (".keras", ".py", ".h5")


def is_function(model: str | None) -> bool:
    """True for a value of `--model` that names a function."""
    return FUNCTION.fullmatch(model or "") is not None


def options_of(recipe: Recipe) -> dict[str, Any]:
    """The flags that say what a network is made like, without those that are not given.

    Args:
        recipe: The flags.

    Returns:
        Name -> value; a function gets them if it takes them.

    Raises:
        UserError: `--widths` has no whole numbers.
    """
    names = ("width", "widths", "activation", "l2", "sync_batch_norm")
    options = {name: getattr(recipe, name) for name in names}
    options = {name: one for name, one in options.items() if one is not None and one is not False}
    return options | ({"widths": _widths(recipe.widths)} if "widths" in options else {})


def _widths(text: str) -> tuple[int, ...]:
    """`256,128` as numbers of units."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--widths={text} must be whole numbers with commas between them, such as 256,128."
        ) from None


@dataclasses.dataclass(frozen=True)
class OwnNetwork:
    """A network of the user's own.

    Attributes:
        model: The value of `--model`.
        plain: The network of Keras' layers, from images to logits.
        drawn: Whether each seed draws other weights: of a file, which holds one network only. A
            function draws them itself.
        digest: A fingerprint of what the network is, of whatever seed.
    """

    model: str
    plain: keras.Model
    drawn: bool
    digest: str

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        classes: int | None = None,
        input_shape: Sequence[int] | None = None,
        given: keras.Model | Callable | None = None,
    ) -> "OwnNetwork":
        """Loads or makes the network that a recipe names.

        Args:
            recipe: The flags.
            classes: Number of the images' classes, for a function.
            input_shape: Height, width and channels of the images, for a function.
            given: The network, or a function that makes it. Default: what `--model` names.

        Returns:
            The network.

        Raises:
            UserError: There is no such file or function, it gives no classifier, or flags do not
                fit it.
        """
        import_own(recipe.import_)
        if isinstance(given, keras.Model):
            _check_options(recipe, (), "the network says what its layers are")
            plain = convert.to_backprop(_built(given, input_shape, f"--model={recipe.model}"))
            digest = _digest(plain)
            _set_policy(plain, PRECISIONS[recipe.precision])
            return cls(recipe.model, _to_logits(plain, recipe.model), False, digest)
        if given is None and is_function(recipe.model):
            given = import_function(recipe.model, f"--model={recipe.model}")
        if given is not None:
            offered = {"classes": classes, "input_shape": input_shape, "seed": recipe.seed}
            made = _alone(lambda: _called(given, recipe, offered))
            return cls(recipe.model, _to_logits(made, recipe.model), False, _digest(made))
        if recipe.model.endswith(".py"):
            raise UserError(
                f"--model={recipe.model} names no function: write {recipe.model}:FUNCTION, of one "
                "that returns a keras.Model."
            )
        _check_options(recipe, (), "the file says what its layers are")
        file = Path(recipe.model)
        plain = convert.to_backprop(load(file))
        _set_policy(plain, PRECISIONS[recipe.precision])
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        return cls(recipe.model, _to_logits(plain, recipe.model), True, digest)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Height, width and channels of the images that it takes; `None` for any size."""
        return classifier(self.plain, f"--model={self.model}")[1]

    def check(self, recipe: Recipe, classes: int, input_shape: Sequence[int]) -> None:
        """Checks that the network fits flags and images.

        Args:
            recipe: The flags.
            classes: Number of the images' classes.
            input_shape: Height, width and channels of the images.

        Raises:
            UserError: It has other classes or takes other images, a layer has a loss of its own
                that a converted one can't have or keeps states from batch to batch, or
                `--model_digest` is of another network.
        """
        own, shape = classifier(self.plain, f"--model={self.model}")
        fits = len(shape) == len(input_shape) and all(
            size in (None, given) for size, given in zip(shape, input_shape, strict=True)
        )
        if not fits:
            raise UserError(
                f"--model={self.model} takes inputs of the shape {shape}, but the images have "
                f"{tuple(input_shape)}: give --image_size, other images, or a network whose "
                "keras.Input has their shape."
            )
        if own != classes:
            raise UserError(
                f"--model={self.model} tells {own} classes apart, but the images have {classes}: "
                "give a network whose last layer has as many units as there are classes."
            )
        for each in with_kernels(self.plain):
            if each.obstacle is None and each.layer.activity_regularizer is not None:
                raise UserError(
                    f"layer {each.path!r} of --model={self.model} has an activity_regularizer, "
                    "which layers with kernels can't have in a run: put a "
                    "keras.layers.ActivityRegularization behind it."
                )
        for layer in self.plain._flatten_layers():
            if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
                raise UserError(
                    f"layer {layer.name!r} of --model={self.model} is stateful, but each batch of "
                    "a run holds other images, to which states of the one before do not belong: "
                    "leave stateful=True out."
                )
        if recipe.model_digest not in (None, self.digest):
            raise UserError(
                f"--model={self.model} gives another network (--model_digest={self.digest}) than "
                f"the one that these flags are of ({recipe.model_digest}): put that one back, or "
                "start anew without --model_digest."
            )

    def network(self, rule: Any, seed: int) -> keras.Model:
        """Makes the network that a run trains.

        Args:
            rule: Its rule, or a mapping of patterns for layers to rules.
            seed: Of weights and feedback kernels.

        Returns:
            A network of feedback layers, by which alone it differs from that of another rule; of
            Keras' own layers under backprop.

        Raises:
            UserError: The network or a layer of it can't be made from its config, or the rule does
                not fit it.
        """
        plain = redraw(self.plain, derive(seed, "forward")) if self.drawn else self.plain
        if getattr(rule, "name", None) == "backprop":
            return rebuild(plain, lambda _, config: config) if plain is self.plain else plain
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "stay on backprop")  # `told` tells it
            return convert.to_feedback(plain, rule, seed=derive(seed, "feedback"))

    def told(self, network: keras.Model) -> str:
        """What became of the layers.

        Args:
            network: What `network` gave.

        Returns:
            A sentence.
        """
        records = convert.report(network)
        left = [f"{record['layer']} ({record['note']})" for record in records if record["note"]]
        converted = sum(record["rule"] != "backprop" for record in records)
        words = "weights drawn by --seed" if self.drawn else "weights as they were given"
        return (
            f"Network: {self.model}, {words}; converted: {converted} of {len(records)} layers with "
            "kernels"
            + (f"; left on backprop: {', '.join(left)}" if left and converted else "")
            + "."
        )


def load(file: Path) -> keras.Model:
    """Loads a network from a `.keras` file, not compiled.

    Args:
        file: The file.

    Returns:
        The model.

    Raises:
        UserError: The file is missing, damaged, no Keras model, or has layers that are unknown.
    """
    try:
        return models.load(file, compile=False)
    except (TypeError, ValueError, AttributeError, ImportError) as problem:
        if isinstance(problem, UserError):
            raise
        if (version := _keras_of(file)).startswith(("1.", "2.")):
            raise UserError(
                f"{file} was written by Keras {version}, whose networks Keras 3 can't make: make "
                "the network anew, and start from weights that save_weights('old.h5') gives there."
            ) from None
        words = " ".join(str(problem).split())[:200]
        raise UserError(
            f"{file} can't be loaded ({words}): register classes and functions of your own with "
            "keras.saving.register_keras_serializable in a file that --import names."
        ) from None


def _keras_of(file: Path) -> str:
    """The version of Keras that has written a `.keras` file; empty if it does not say."""
    with zipfile.ZipFile(file) as archive:
        return str(json.loads(archive.read("metadata.json")).get("keras_version", ""))


def classifier(network: keras.Model, name: str) -> tuple[int, tuple[int | None, ...]]:
    """Reads what a classifier takes and gives.

    Args:
        network: The network.
        name: What errors call it.

    Returns:
        The number of classes, and the shape of an image.

    Raises:
        UserError: The network is no classifier.
    """
    outputs, inputs = getattr(network, "outputs", None), getattr(network, "inputs", None)
    if not (outputs and inputs):
        raise UserError(
            f"{name} is a {type(network).__name__}, which does not tell the shapes of its inputs: "
            "give keras.Model(x, model(x)) with x = keras.Input(shape)."
        )
    if len(inputs) > 1:
        raise UserError(
            f"{name} takes {len(inputs)} inputs, but images alone are given to it: give a network "
            "of one input."
        )
    if len(outputs) > 1 or len(outputs[0].shape) != 2 or (outputs[0].shape[1] or 0) < 2:
        shapes = [tuple(one.shape) for one in outputs]
        raise UserError(
            f"{name} is no classifier, as its outputs have the shapes {shapes}, not one (batch, "
            "classes): give a network with a number for each class."
        )
    return outputs[0].shape[1], tuple(inputs[0].shape[1:])


def of_one_tensor(network: keras.Model) -> keras.Model:
    """Makes a network give its only output as a tensor, where it has it in a list or by a name.

    Args:
        network: The network, of one input and one output.

    Returns:
        The network, or another one of the same layers.
    """
    if not keras.tree.is_nested(getattr(network, "_outputs_struct", None)):
        return network
    return keras.Model(network.inputs[0], network.outputs[0], name=network.name)


def _check_options(recipe: Recipe, taken: Collection[str], reason: str) -> None:
    """Refuse flags that say what a network is made like where it takes none of them."""
    for name, value in options_of(recipe).items():
        if name not in taken:
            raise UserError(
                f"--{name}={value} and --model={recipe.model} contradict each other: {reason}; "
                f"leave the flag out, or give a function that takes an argument {name}."
            )


def _called(function: Callable, recipe: Recipe, offered: Mapping[str, Any]) -> keras.Model:
    """What the function makes, of Keras' layers."""
    flag = f"--model={recipe.model}"
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"{flag} does not tell its arguments: give a function of your own that calls it."
        ) from None
    _check_options(recipe, parameters, "the function does not take it")
    arguments = {**offered, **options_of(recipe)}
    arguments = {name: one for name, one in arguments.items() if name in parameters}
    keras.mixed_precision.set_dtype_policy(PRECISIONS[recipe.precision])
    keras.utils.set_random_seed(derive(recipe.seed, "network"))
    code = recipe.model.rpartition(":")[0]
    try:
        made = function(**arguments)
    except (Exception, SystemExit) as problem:
        path = place(code).resolve() if code.endswith(".py") else None
        raise UserError(f"{flag} {told(problem, path, code)}") from None
    if not isinstance(made, keras.Model):
        raise UserError(
            f"{flag} gives {made!r} of the type {type(made).__name__}, but a keras.Model was "
            "expected: let the function return one."
        )
    return convert.to_backprop(_built(made, offered["input_shape"], flag))


def _built(network: keras.Model, input_shape: Sequence[int] | None, flag: str) -> keras.Model:
    """The network, which has inputs."""
    if type(network) is keras.Sequential and not network.built and input_shape:
        network.build((None, *input_shape))
    if not getattr(network, "inputs", None):
        raise UserError(
            f"{flag} gives a {type(network).__name__}, which does not tell the shapes of its "
            "inputs: return keras.Model(inputs, outputs), for a subclassed model x = "
            "keras.Input(shape) and keras.Model(x, model(x))."
        )
    return network


def _alone(make):
    """The result of a function that finds Keras' names of layers unused, as in a new process.

    Keras counts names in each thread anew. Layers without names of their own are then called the
    same whenever a run goes on.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def _digest(network: keras.Model) -> str:
    """A fingerprint of the layers and how they are connected, without seeds."""

    def plain(node):
        if isinstance(node, Mapping):
            left_out = ("seed", "build_config", "compile_config")
            return {str(k): plain(v) for k, v in node.items() if k not in left_out}
        return [plain(each) for each in node] if isinstance(node, list | tuple) else node

    config = plain(keras.saving.serialize_keras_object(network))
    text = json.dumps(config, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _set_policy(network: keras.Model, policy: str) -> None:
    """Lets a network compute in the precision of the run, where it is not saved in a mixed one."""
    layers = network._flatten_layers(include_self=False)
    mixed = any(layer.dtype_policy.name.startswith("mixed") for layer in layers)
    for layer in layers:
        name = layer.dtype_policy.name
        if name.startswith("mixed") or name == "float32" and not mixed:
            layer.dtype_policy = policy


def _to_logits(network: keras.Model, model: str) -> keras.Model:
    """The network without the softmax at its end, which belongs to the loss."""
    classifier(network, f"--model={model}")
    network = of_one_tensor(network)
    history = network.outputs[0]._keras_history
    operation, holder = history.operation, network
    while isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        holder = operation
        operation = operation.outputs[0]._keras_history.operation
    activation = getattr(operation, "activation", None)
    if activation is keras.activations.softmax:
        operation.activation = keras.activations.linear
    elif type(operation).__name__ == "Softmax" and holder is network:
        node = operation._inbound_nodes[history.node_index]
        return keras.Model(network.inputs[0], node.input_tensors[0], name=network.name)
    elif activation not in (None, keras.activations.linear) or type(operation).__name__ in (
        "Softmax",
        "Sigmoid",
    ):
        name = getattr(activation, "__name__", type(operation).__name__.lower())
        raise UserError(
            f"--model={model} ends in {operation.name!r} with the activation {name}, but logits or "
            "a softmax over the classes were expected: let its last layer have none."
        )
    return network
