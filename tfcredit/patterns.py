"""Layers chosen by regular expressions that fit their whole names or paths."""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from tfcredit.errors import UserError

# `*` or `?` in a place where regular expressions for names hardly have one: "*", "encoder/*".
_WILDCARD = re.compile(r"(?:^|(?<!\\)[\w/-])[*?]")


class LayerPatterns:
    """Values of layers by patterns, of which the first that fits a layer counts.

    A pattern is a regular expression, as Keras takes them for paths. It fits a layer whose whole
    name or whole path it matches: `"dense|conv.*"`, `"encoder/.*"`.

    Args:
        choices: Pattern -> value.

    Raises:
        UserError: A pattern is no regular expression.

    Example:
        >>> rules = LayerPatterns({"conv0|dense": "backprop", "conv.*": "weight_mirror"})
        >>> [rules.first(name) for name in ("conv0", "conv1", "norm")]
        ['backprop', 'weight_mirror', None]
    """

    def __init__(self, choices: Mapping[str, Any]) -> None:
        self._choices = [(pattern, _compiled(pattern), choices[pattern]) for pattern in choices]

    def first(self, *names: str, default: Any = None) -> Any:
        """Finds the value of a layer.

        Args:
            *names: The layer's name, path or both.
            default: Value of a layer that no pattern fits.

        Returns:
            The value of the first pattern that fits one of the names, or `default`.
        """
        for _, expression, value in self._choices:
            if any(map(expression.fullmatch, names)):
                return value
        return default

    def check(
        self, layers: Iterable[Iterable[str]], what: str = "layer that can have a rule"
    ) -> None:
        """Checks that no pattern is a slip.

        Args:
            layers: Of each layer the names that `first` gets.
            what: What errors call one of these layers.

        Raises:
            UserError: A pattern fits no layer.
        """
        names = list(dict.fromkeys(name for layer in layers for name in layer))
        examples = " or ".join(map(repr, dict.fromkeys([*names[:1], *names[-1:]])))
        for pattern, expression, _ in self._choices:
            if not any(map(expression.fullmatch, names)):
                raise UserError(
                    f"pattern {pattern!r} fits no {what}: write a regular "
                    f"expression for whole names such as {examples}."
                )


def split(text: str, separator: str) -> list[str]:
    """Takes a text apart where a separator stands outside of brackets.

    Args:
        text: The text.
        separator: One letter.

    Returns:
        The parts, without spaces around them.

    Example:
        >>> split("backprop, weight_mirror(amp=0.01, decay=0.02)", ",")
        ['backprop', 'weight_mirror(amp=0.01, decay=0.02)']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def from_text(text: str) -> dict[str, str] | None:
    """Reads choices by layer from one line.

    Args:
        text: Such as `"conv.*: weight_mirror; dense: backprop"`.

    Returns:
        Pattern -> value as text; `None` if the text has no colon outside of brackets.

    Raises:
        UserError: A part is no pattern with a value, or a pattern stands there twice.

    Example:
        >>> from_text("conv.*: weight_mirror(amp=0.01); dense: backprop")
        {'conv.*': 'weight_mirror(amp=0.01)', 'dense': 'backprop'}
    """
    if len(split(text, ":")) == 1:
        return None
    choices: dict[str, str] = {}
    for part in filter(None, split(text, ";")):
        pattern, *value = split(part, ":")
        if len(value) != 1 or not pattern or not value[0] or pattern in choices:
            raise UserError(
                f"{part!r} in {text!r} must be a pattern for layers, a colon and what they get, "
                "each pattern once, such as 'conv.*: weight_mirror; dense: backprop'."
            )
        choices[pattern] = value[0]
    return choices


def from_wildcards(pattern: str) -> str:
    """Writes a pattern with wildcards as a regular expression.

    Args:
        pattern: A pattern with the wildcards of `fnmatch`: `*`, `?`, `[abc]` and `[!abc]`.

    Returns:
        The regular expression that fits the same names.

    Example:
        >>> from_wildcards("encoder/dense_?*")
        'encoder/dense_..*'
    """

    def expression(part: re.Match) -> str:
        text = part[0]
        if len(text) > 1:
            return text.replace("[!", "[^", 1)
        return {"*": ".*", "?": "."}.get(text) or re.escape(text)

    return re.sub(r"\[!?[^\]]+\]|.", expression, pattern)


def accept_wildcards(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrites patterns with wildcards, and warns that they will not be taken for long.

    Args:
        choices: Pattern -> value, for `LayerPatterns`.

    Returns:
        Regular expression -> value, in the same order.
    """
    accepted = {}
    for pattern, value in choices.items():
        if isinstance(pattern, str) and _WILDCARD.search(pattern):
            expression = from_wildcards(pattern)
            warnings.warn(
                f"pattern {pattern!r} has wildcards, which the next release will not take: write "
                f"the regular expression {expression!r}.",
                FutureWarning,
                stacklevel=4,  # the caller of `to_feedback`
            )
            pattern = expression
        accepted.setdefault(pattern, value)
    return accepted


def _compiled(pattern: Any) -> re.Pattern:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(
            f"pattern {pattern!r} is no regular expression ({error}): write one that fits whole "
            "names of layers, such as 'block_group1_.*'."
        ) from error
