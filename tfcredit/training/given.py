"""What a training is given in Python: arrays, data sets, networks and rules, beside flags."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit import rules
from tfcredit.data import ImageData, own_arrays, streams
from tfcredit.data.arrays import as_images, as_labels
from tfcredit.errors import UserError
from tfcredit.primitives import WeightedSum
from tfcredit.rules.registry import spelled
from tfcredit.training.flags import LARGEST, as_arguments
from tfcredit.training.plan import data_options, held_out
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.rule_flags import RulesByLayer


@dataclasses.dataclass(frozen=True)
class Given:
    """A recipe, and objects of Python that stand for its --dataset and --model.

    Attributes:
        recipe: The recipe; a network that was given has its name in it as `<NAME>`.
        images: The images, if they were given.
        network: The network or a function that makes it, if one was given.
    """

    recipe: Recipe
    images: ImageData | None
    network: keras.Model | Callable | None

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Any],
        classes: int | None,
        model: Any,
        rule: Any,
        flags: Mapping[str, Any],
    ) -> "Given":
        """Takes arguments apart.

        Args:
            parts: "train", "test" and "val" -> pairs of arrays, or datasets; the first may be a
                data set's name. `None` is none.
            classes: Number of classes of arrays and datasets; `None` to count them.
            model: A network's name or file, a network, or a function that makes one; or `None`.
            rule: See `rule_text`; or `None`.
            flags: Of `tfcredit train`, by their names.

        Returns:
            What they say.

        Raises:
            UserError: Something is of another type, unknown or wrong.
        """
        network, stated = None, with_dataset(parts["train"], flags)
        model = os.fspath(model) if isinstance(model, os.PathLike) else model
        if model is not None:
            network = None if isinstance(model, str) else _network(model)
            stated["model"] = model if network is None else f"<{_name(model)}>"
        if rule is not None:
            stated["rule"] = rule_text(rule)
        recipe, given = parse(as_arguments(Recipe, stated))
        images = _images(parts, classes, recipe, given)
        return cls(recipe, images, network)


def rule_text(rule: Any) -> str:
    """Writes a rule as `--rule` takes it.

    Args:
        rule: Anything that `tfcredit.rules.get` takes; or a mapping from patterns for layers to
            such.

    Returns:
        Its text.

    Raises:
        UserError: It is no rule, or can't be written so.
    """
    if isinstance(rule, str):
        return rule
    by_layer = isinstance(rule, Mapping) and not isinstance(rule, WeightedSum)
    if by_layer and not {"name", "class_name"} & set(rule):
        return RulesByLayer({pattern: rules.get(rule[pattern]) for pattern in rule}).name
    made = rules.get(rule)
    text = spelled(made)
    if rules.get(text) != made:
        raise UserError(
            f"rule={rule!r} can't be written on one line, as flags.txt has it ({text}): register a "
            "rule of your own by rules.register, and give coefficient_schedules as a flag."
        )
    return text


def with_dataset(data: Any, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Adds a data set's name that is given as `data` to flags.

    Args:
        data: As `tfcredit.train` takes it.
        flags: Of `tfcredit train`, by their names.

    Returns:
        The flags, with `dataset` if `data` is a name.

    Raises:
        UserError: They have a `dataset` already.
    """
    if not isinstance(data, str):
        return dict(flags)
    if flags.get("dataset") is not None:
        raise UserError(
            f"dataset={flags['dataset']!r} is given beside data={data!r}: leave one out."
        )
    return {**flags, "dataset": data}


def held_in_python(
    parts: Mapping[str, Any], recipe: Recipe, flags: set[str], classes: int | None = None
) -> dict[str, Any]:
    """Picks the images that Python holds.

    Args:
        parts: "train", "test" and "val" -> images; `None` is none. The first may be a data set's
            name.
        recipe: The flags.
        flags: Those that were given, in a flagfile too.
        classes: Number of classes of the images, or `None`.

    Returns:
        The parts that are given; none if flags name the images.

    Raises:
        UserError: Flags name other images, or there are some to judge by but none to train on.
    """
    train = parts["train"]
    others = {name: part for name, part in parts.items() if part is not None and name != "train"}
    if train is None or isinstance(train, str):
        for name in [*others, *(["classes"] if classes is not None else [])]:
            word = {"val": "validation"}.get(name, name)
            raise UserError(
                f"{word} is given beside the data set {recipe.dataset!r}, which brings its own: "
                "leave it out, or give images as data, too."
            )
        return {}
    for name in ("dataset", "data_dir"):
        if name in flags:
            raise UserError(
                f"{name}={getattr(recipe, name)!r} is given beside data, which is all there is to "
                "train on: leave one out."
            )
    return {"train": train, **others}


def _images(
    parts: Mapping[str, Any], classes: int | None, recipe: Recipe, flags: set[str]
) -> ImageData | None:
    """The images that were given; none if flags name them."""
    given = held_in_python(parts, recipe, flags, classes)
    if not given:
        return None
    if all(isinstance(part, tf.data.Dataset) for part in given.values()):
        for name, value in data_options(recipe, "arrays").items():
            if value is False:  # no augmentation
                continue
            raise UserError(
                f"{name} is for images that tfcredit prepares, but a tf.data.Dataset gives them as "
                "they go into the network: leave it out, and map the dataset."
            )
        images = streams.of_datasets(given, classes)
    else:
        pairs = {name: _pair(name, part) for name, part in given.items()}
        options = data_options(recipe, "arrays")
        if "image_size" in options:
            raise UserError("image_size is for image files: resize the arrays, and leave it out.")
        images = own_arrays.of_parts(pairs, classes, **options)
    return held_out(recipe, images)


def named_arrays(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Names arrays as a file of `--dataset=arrays` does.

    Args:
        parts: "train", "test" and "val" -> pairs of arrays; those that there are.

    Returns:
        Name -> array.

    Raises:
        UserError: A part is no pair of arrays.
    """
    arrays = {}
    for part, pair in parts.items():
        if isinstance(pair, tf.data.Dataset):
            raise UserError(
                "a comparison trains in processes of their own, to which a tf.data.Dataset can't "
                "be given: give arrays (x, y), or a data set's name."
            )
        (x, y), names = _pair(part, pair), own_arrays.KEYS[part]
        arrays[names[0]] = as_images(x, names[0])
        arrays[names[1]] = as_labels(y, len(x), LARGEST, names[1])
    return arrays


def _pair(name: str, part: Any) -> tuple[Any, Any]:
    """Images and labels."""
    if isinstance(part, tuple | list) and len(part) == 2:
        return part[0], part[1]
    name = {"train": "data", "val": "validation"}.get(name, name)
    raise UserError(
        f"{name} is a {type(part).__name__}, but (images, labels), or a tf.data.Dataset for all of "
        "data, test and validation was expected; files are named by flags, such as "
        "data='folder', data_dir=DIR."
    )


def _network(model: Any) -> keras.Model | Callable:
    if isinstance(model, keras.Model) or callable(model) and not isinstance(model, keras.Layer):
        return model
    raise UserError(
        f"model={model!r} is a {type(model).__name__}, but a network's name or file, a "
        "keras.Model, or a function that returns one was expected."
    )


def _name(model: keras.Model | Callable) -> str:
    name = model.name if isinstance(model, keras.Model) else getattr(model, "__name__", "function")
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
