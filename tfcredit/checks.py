"""Checked arguments: one sentence that names the value, what was expected and a near name."""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

from tfcredit.errors import UserError


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name.

    Args:
        word: The name.
        known: The names that are known.

    Returns:
        `; did you mean 'NAME'?` if a known name is near, else a full stop.

    Example:
        >>> did_you_mean("info_alignmnt", ["backprop", "info_alignment"])
        "; did you mean 'info_alignment'?"
    """
    near = difflib.get_close_matches(str(word), list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else "."


def choice(name: str, value: Any, known: Iterable[str]) -> Any:
    """An argument that must be one of a few names.

    Args:
        name: The argument.
        value: Its value.
        known: The names.

    Returns:
        `value`.

    Raises:
        UserError: It is none of them.
    """
    known = list(known)
    if value in known:
        return value
    raise UserError(
        f"{name}={value!r} is unknown: give one of {', '.join(known)}{did_you_mean(value, known)}"
    )


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    unit: str = "",
) -> float:
    """An argument that must be a finite number in a range.

    Args:
        name: The argument.
        value: Its value; truth values and NaN are no numbers here.
        above: What it must be greater than.
        at_least: The least that it may be.
        below: What it must be less than.
        at_most: The most that it may be.
        unit: Its unit, for the message, such as `"degrees"`.

    Returns:
        The number as a float.

    Raises:
        UserError: It is no finite number in the range.

    Example:
        >>> number("gain", 1, above=0, at_most=1)
        1.0
    """
    bounds = _bounds(above, at_least, below, at_most)
    if _is_real(value) and math.isfinite(value) and all(fits(value) for fits, _ in bounds):
        return float(value)
    _refuse(name, value, f"finite number{unit and f' of {unit}'}", bounds)


def integer(
    name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """An argument that must be a whole number in a range.

    Args:
        name: The argument.
        value: Its value; truth values are no numbers here.
        at_least: The least that it may be.
        at_most: The most that it may be.

    Returns:
        The number as an int.

    Raises:
        UserError: It is no whole number in the range.

    Example:
        >>> integer("rank", 10, at_least=1)
        10
    """
    bounds = _bounds(at_least=at_least, at_most=at_most)
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and all(fits(value) for fits, _ in bounds):
        return int(value)
    _refuse(name, value, "integer", bounds)


def positive(**sizes: int) -> None:
    """Refuse numbers and sizes that are 0 or less.

    Args:
        **sizes: Name -> value.

    Raises:
        UserError: One is below 1.
    """
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"{name} {value} is not positive: choose one of at least 1.")


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _bounds(above=None, at_least=None, below=None, at_most=None) -> list[tuple]:
    """A test and its words for each bound that is given."""
    tests = [
        (above, lambda value: value > above, "positive" if above == 0 else f"above {above}"),
        (at_least, lambda value: value >= at_least, f">= {at_least}"),
        (below, lambda value: value < below, f"below {below}"),
        (at_most, lambda value: value <= at_most, f"at most {at_most}"),
    ]
    return [(test, words) for bound, test, words in tests if bound is not None]


def _refuse(name: str, value: Any, kind: str, bounds: list[tuple]):
    words = [words for _, words in bounds]
    if "positive" in words:
        kind = f"positive {kind}"
        words.remove("positive")
    article = "an" if kind == "integer" else "a"
    expected = " ".join(filter(None, [article, kind, " and ".join(words)]))
    raise UserError(f"{name}={value!r} must be {expected}.")
