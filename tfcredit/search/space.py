"""The space of a search: flags and arguments of the rule, with the values that they may take.

A space is a mapping from names to `Parameter`s. A name is that of a flag, `amp`, or `rule.NAME`
for an argument of the rule that has no flag, `rule.angle`.
"""

import dataclasses
import json
import math
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from tfcredit import rules
from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.patterns import from_text
from tfcredit.rules import AlignmentRule
from tfcredit.training.flags import of_scope
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.rule_flags import rule_of

# The built-in ranges of arguments of rules. The authors' are not published: these are ours, around
# the defaults, over orders of magnitude where the argument has any.
ARGUMENTS = {
    "akrout_mirror": {"rate": (0.0128, 128.0), "rescale": (0.05, 5.0)},
    "brsf": {"concordance": (0.5, 1.0)},
    "calibrated_activation": {"gain": (0.0005, 0.9)},
    "calibrated_mirror": {"angle": (0.5, 50.0), "gain": (0.0001, 1.0)},
    "direct_kolen_pollack": {"decay": (0.00002, 0.2)},
    "frozen_backprop": {"every": (1, 10000), "fraction": (0.01, 1.0)},
    "frsf": {"concordance": (0.5, 1.0)},
    "l_drl": {"coefficient": (0.00001, 0.1), "stddev": (0.01, 100.0)},
    "low_dimensional_feedback": {"rank": (1, 1000), "decay": (0.00002, 0.2)},
    "low_rank_feedback": {"rank": (1, 1000)},
    "node_perturbation": {"stddev": (0.001, 10.0)},
    "phase_free_mirror": {"angle": (1.0, 80.0), "gain": (0.0001, 1.0)},
    "product_feedback_alignment": {"width": (1.0, 16.0)},
    "sign_symmetry": {"concordance": (0.5, 1.0)},
    "soft_alignment": {"angle": (1.0, 89.0)},
    "tracking_activation": {"budget": (0.002, 0.5)},
    "tracking_mirror": {"budget": (0.002, 0.5)},
    "usf": {"concordance": (0.5, 1.0)},
}
LEARNING_RATE = (0.001, 1.0)
"""The built-in range of the forward weights' learning rate, whose default is 0.1."""
SPAN = 100.0
"""The built-in ranges of coefficients and of B's learning rate go from 1/SPAN to SPAN defaults."""
_LINEAR = {("soft_alignment", "angle")} | {(n, "concordance") for n in ARGUMENTS}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """The values that a flag may take: a range, or choices.

    Args:
        low: The least, a number; integers for what is counted.
        high: The largest.
        log: True to draw as often from each order of magnitude.
        choices: The values, instead of a range.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple = ()

    def suggest(self, name: str, trial: Any) -> Any:
        """The value that an Optuna trial gets, or has."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        suggest = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)

    def extremes(self) -> tuple:
        """The values between which, or among which, all others lie."""
        return self.choices or (self.low, self.high)

    def stated(self) -> dict:
        """As a space file states it."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log}


def get(identifier: str | None, recipe: Recipe, given: set[str]) -> dict[str, Parameter]:
    """A space.

    Args:
        identifier: A file, `.json` or `.toml`, or the name of a rule for the built-in one, from
            which flags that were given are left out. Default: the recipe's own rule.
        recipe: What the trials have in common.
        given: The flags that were given.

    Returns:
        Name -> parameter.

    Raises:
        UserError: No such file or rule, something in it can't be understood, is no flag, is given
            and searched, or makes no run.
    """
    if identifier is not None and pathlib.Path(identifier).suffix in (".json", ".toml"):
        space = _load(pathlib.Path(identifier), recipe.rule)
        for name in sorted(given & set(space)):
            raise UserError(
                f"--{name}={getattr(recipe, name)} is given, but {identifier} searches it: leave "
                "one out."
            )
    else:
        space = built_in(identifier or recipe.rule)
        space = {name: one for name, one in space.items() if name not in given}
    if not space:
        raise UserError(
            f"--space={identifier or recipe.rule} holds nothing to search: name a flag in it, or "
            "don't give all of its flags."
        )
    # Each extreme of each parameter occurs in one of these points.
    for index in range(max(len(one.extremes()) for one in space.values())):
        point = {name: one.extremes()[index % len(one.extremes())] for name, one in space.items()}
        rule_of(apply(point, recipe))
    return space


def built_in(rule: str) -> dict[str, Parameter]:
    """The space of a rule: learning rates, and all that the rule lets one choose.

    Args:
        rule: As `--rule` takes it. Coefficients that it states are the middle of their ranges.

    Returns:
        Name -> parameter.

    Raises:
        UserError: No such rule.

    Example:
        >>> sorted(built_in("kolen_pollack"))
        ['decay', 'learning_rate']
    """
    space = {"learning_rate": Parameter(*LEARNING_RATE, log=True)}
    if from_text(rule) is not None:  # rules by layer: what they have in common
        return space
    made = rules.get(rule)
    if made.learns and not made.follows_forward:
        space["feedback_learning_rate"] = _around(made.feedback_optimizer[1])
    if isinstance(made, AlignmentRule):
        own = {name: value for name, value in made.coefficients.items() if name != "error"}
        space |= {name: _around(value) for name, value in own.items()}
    for name, (low, high) in ARGUMENTS.get(made.name, {}).items():
        log = (made.name, name) not in _LINEAR
        space[f"rule.{name}"] = Parameter(low, high, log)
    return space


def apply(values: Mapping[str, Any], recipe: Recipe, *flags: str) -> Recipe:
    """The recipe of a trial.

    Args:
        values: Name -> value, as a space has the names.
        recipe: What the trials have in common.
        *flags: More of its own, as on a command line.

    Returns:
        The recipe.

    Raises:
        UserError: The flags or the rule do not take these values.
    """
    arguments = {name[5:]: value for name, value in values.items() if name.startswith("rule.")}
    own = [f"--{name}={value}" for name, value in values.items() if not name.startswith("rule.")]
    if arguments:
        own.append(f"--rule={_with_arguments(recipe.rule, arguments)}")
    return parse([*recipe.flagfile().splitlines(), *own, *flags])[0]


def _with_arguments(rule: str, arguments: dict) -> str:
    made = rules.get(rule)
    stated = ", ".join(f"{name}={v!r}" for name, v in {**made.get_config(), **arguments}.items())
    return f"{made.name}({stated})"


def _around(value: float) -> Parameter:
    return Parameter(value / SPAN, value * SPAN, log=True)


def _load(path: pathlib.Path, rule: str) -> dict[str, Parameter]:
    """A space file, checked against the flags and the rule's arguments."""
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as problem:
        raise UserError(
            f"--space={path} can't be read ({getattr(problem, 'strerror', None) or problem}): give "
            "a JSON or TOML file, or the name of a rule."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"--space={path} must map names of flags to ranges or choices.")
    if isinstance(content.get("rule"), dict):  # [rule.angle] in TOML
        arguments = content.pop("rule")
        content |= {f"rule.{name}": stated for name, stated in arguments.items()}
    return {name: _read(name, stated, rule, path) for name, stated in content.items()}


def _read(name: str, stated: Any, rule: str, path: pathlib.Path) -> Parameter:
    integer = _counts(name, rule, path)

    def wrong(expected: str) -> UserError:
        return UserError(f"--space={path}: {name} = {stated!r}, but {expected}.")

    if not isinstance(stated, dict) or set(stated) not in (
        {"choices"},
        {"low", "high"},
        {"low", "high", "log"},
    ):
        raise wrong("it must have low and high (and log, true or false), or choices")
    if "choices" in stated:
        choices = stated["choices"]
        if not isinstance(choices, list) or len(choices) < 2 or not all(map(_is_plain, choices)):
            raise wrong("choices must be a list of two or more words, numbers or truth values")
        return Parameter(choices=tuple(choices))
    if integer is None:
        raise wrong("this flag takes no numbers: give choices")
    low, high, log = stated["low"], stated["high"], stated.get("log", False)
    if not all(_is_number(number) and math.isfinite(number) for number in (low, high)):
        raise wrong("low and high must be finite numbers")
    if not isinstance(log, bool):
        raise wrong("log must be true or false")
    if not low < high:
        raise wrong("low must be below high")
    if log and low <= 0:
        raise wrong("low must be above 0 for log")
    if not integer:
        return Parameter(float(low), float(high), log)
    if low != int(low) or high != int(high):
        raise wrong("low and high must be integers")
    return Parameter(int(low), int(high), log)


def _counts(name: str, rule: str, path: pathlib.Path) -> bool | None:
    """True if a flag or argument takes integers only; `None` if it takes no numbers."""
    if name.startswith("rule."):
        config = rules.get(rule).get_config()
        _check_known(name, [f"rule.{key}" for key in config], f"argument of {rule}", path)
        kinds: Sequence[type] = (type(config[name[5:]]),)
    else:
        hints = get_type_hints(Recipe)
        # A search has one rule, and a seed for each trial.
        known = [flag for flag in of_scope(Recipe, "run", "start") if flag not in ("rule", "seed")]
        _check_known(name, known, "flag that can be searched", path)
        kinds = get_args(hints[name]) or (hints[name],)
    if float in kinds:
        return False
    return True if int in kinds else None


def _check_known(name: str, known: list[str], what: str, path: pathlib.Path) -> None:
    if name not in known:
        raise UserError(
            f"--space={path}: {name!r} is no {what}{did_you_mean(name, known)} Known: "
            f"{', '.join(known) or 'none'}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, bool)) or _is_number(value) and math.isfinite(value)
