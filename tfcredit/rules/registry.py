"""Names of rules, and the many ways to say which rule is meant."""

import ast
import inspect
from collections.abc import Mapping
from typing import Any

import keras

from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.primitives import PRIMITIVES, WeightedSum
from tfcredit.rules.base import Rule

_RULES: dict[str, type[Rule]] = {}


def register(name: str):
    """Class decorator: make a `Rule` known by `name`, and serialisable by Keras."""

    def decorate(cls: type[Rule]) -> type[Rule]:
        cls.name = name
        _RULES[name] = cls
        return keras.saving.register_keras_serializable("tfcredit")(cls)

    return decorate


def names() -> list[str]:
    """The known names, sorted, as `--rule` takes them."""
    return sorted(_RULES)


def registered() -> dict[str, type[Rule]]:
    """Name -> class of all rules."""
    return dict(_RULES)


def get(identifier: Any) -> Rule:
    """The rule that `identifier` means.

    Args:
        identifier: A `Rule`; a name, `"info_alignment"`; a name with arguments,
            `"weight_mirror(amp=0.01)"`; a weighted sum of primitives, `0.002 * amp + null` or the
            same as a string; a mapping with `"name"` and arguments; or what `serialize` returned.

    Returns:
        A `Rule`.

    Raises:
        UserError: An unknown name or argument, or something of another kind.

    Example:
        >>> get("weight_mirror(amp=0.01)").coefficients["amp"]
        0.01
    """
    if isinstance(identifier, Rule):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Rule):
        return identifier()
    if isinstance(identifier, WeightedSum):
        return _RULES["alignment"](identifier)
    if isinstance(identifier, Mapping):
        if "class_name" in identifier:
            return _deserialize(identifier)
        config = dict(identifier)
        name = config.pop("name", None)
        if not isinstance(name, str):
            raise UserError(
                f"rule={dict(identifier)!r} is a mapping that names no rule: give 'name' beside "
                f"the rule's arguments, such as {{'name': 'weight_mirror', 'amp': 0.01}}."
            )
        return _create(name, config)
    if isinstance(identifier, str):
        return _parse(identifier)
    raise UserError(
        f"rule={identifier!r} is no rule: give a name ({', '.join(names())}), a config mapping "
        "with a 'name', a weighted sum of primitives or a Rule."
    )


def serialize(rule: Rule) -> dict:
    """The rule as plain data that `get` takes back."""
    return keras.saving.serialize_keras_object(rule)


def spelled(rule: Rule) -> str:
    """The rule as `--rule` takes it: its name, and arguments that differ from their defaults.

    Args:
        rule: The rule.

    Returns:
        Its text.

    Example:
        >>> spelled(get({"name": "weight_mirror", "amp": 0.01}))
        'weight_mirror(amp=0.01)'
    """
    config = rule.get_config()
    try:
        defaults = type(rule)().get_config()
    except (TypeError, UserError):  # it can't be made without arguments, as a weighted sum
        if isinstance(config.get("coefficients"), Mapping):
            return " + ".join(f"{config['coefficients'][n]}*{n}" for n in config["coefficients"])
        defaults = {}
    stated = [f"{n}={config[n]!r}" for n in config if config[n] != defaults.get(n)]
    return f"{rule.name}({', '.join(stated)})" if stated else rule.name


def _deserialize(config: Mapping) -> Rule:
    try:
        rule = keras.saving.deserialize_keras_object(config)
    except TypeError as problem:  # Keras knows no such class.
        raise UserError(f"rule {config['class_name']!r} can't be made: {problem}") from None
    if not isinstance(rule, Rule):
        raise UserError(f"rule={config!r} is the config of {rule!r}, which is no rule.")
    return rule


def _create(name, arguments: dict) -> Rule:
    if name not in _RULES:
        raise UserError(
            f"rule {name!r} is unknown{did_you_mean(name, names())} Known rules: "
            f"{', '.join(names())}; one of your own must be imported first, on the command line by "
            "--import=FILE.py."
        )
    known = [*inspect.signature(_RULES[name]).parameters.values()]
    named = [one.name for one in known if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    for argument in arguments if len(named) == len(known) else ():
        if argument not in named:
            raise UserError(
                f"rule {name!r} does not take these arguments: {argument!r} is "
                f"unknown{did_you_mean(argument, named)} It takes {', '.join(named) or 'none'}."
            )
    try:
        return _RULES[name](**arguments)
    except TypeError as problem:
        raise UserError(f"rule {name!r} does not take these arguments: {problem}.") from None


def _parse(text: str) -> Rule:
    if text in _RULES or text.isidentifier() and text not in PRIMITIVES:
        return _create(text, {})
    try:
        tree = ast.parse(text, mode="eval").body
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            arguments = {k.arg: ast.literal_eval(k.value) for k in tree.keywords}
            return _create(tree.func.id, arguments)
        return get(_sum(tree))
    except UserError:
        raise
    except (SyntaxError, ValueError, TypeError):
        raise UserError(
            f"rule {text!r} can't be read: write a name ({', '.join(names())}), a name with "
            "arguments such as 'weight_mirror(amp=0.01)', or a sum of primitives such as "
            f"'0.002*amp + 0.001*null' (primitives: {', '.join(PRIMITIVES)})."
        ) from None


def _sum(tree: ast.expr) -> WeightedSum:
    """`0.002*amp + null` as a syntax tree, read as a weighted sum."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        return _sum(tree.left) + _sum(tree.right)
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Mult):
        number, primitive = tree.left, tree.right
        if isinstance(number, ast.Name):
            number, primitive = primitive, number
        return PRIMITIVES[_primitive_name(primitive)] * ast.literal_eval(number)
    return PRIMITIVES[_primitive_name(tree)] * 1.0


def _primitive_name(tree: ast.expr) -> str:
    name = tree.id.rstrip("_") if isinstance(tree, ast.Name) else ""
    if name not in PRIMITIVES:
        raise ValueError(name)
    return name
