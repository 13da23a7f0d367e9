"""Flags as fields of a dataclass: declared once, checked, parsed and listed for --help."""

import dataclasses
import math
import numbers
import os
import re
import textwrap
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

from absl import flags

from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.files import place

LARGEST = 2**31 - 1
"""The largest number that a flag takes, as TensorFlow counts with 32 bits."""

Scope = Literal["run", "start", "once"]
"""`run`: the flag makes a run what it is. `start`: it may change whenever the run is continued.
`once`: it tells a single start what to do, so that flagfiles leave it out."""

Path = Literal["path", "file or name", "files or names"]
"""What of a flag is a path: all of it; all of it if it ends as code or a network does; or each part
between commas that does."""
FILE = re.compile(r".+\.(?:py(?::\w+)?|keras|h5)", re.DOTALL)
"""`FILE.py`, `FILE.py:FUNCTION`, and files of networks."""


def flag(
    default: Any,
    group: str,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    path: Path | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    scope: Scope = "run",
    sets: tuple[str, str] | None = None,
    shown_in: tuple[str, ...] = (),
    chooses_images: bool = False,
) -> Any:
    """Declare a flag, with all that is known of it.

    Args:
        default: Its default; `None` if data set or rule choose one.
        group: Its heading in --help.
        text: Its line in --help.
        choices: The values that it takes; none for any.
        path: What of it names files or folders, in which `~` stands for the home folder.
        at_least: The least number.
        above: A number that it must exceed.
        at_most: The largest number.
        below: A number that it must stay below.
        scope: What it belongs to.
        sets: The part of a rule that it sets, and the name there: `("coefficients", "amp")`.
        shown_in: The tables that show it: `"report"` of results, `"tensorboard"` at first.
        chooses_images: True if the images of a run, or their size, depend on it.

    Returns:
        A field of a dataclass.
    """
    known = dict(locals())
    return dataclasses.field(default=known.pop("default"), metadata=known)


def name_of(field: str) -> str:
    """The name of a field's flag: without the underscore that a keyword of Python's has."""
    return field.rstrip("_")


def of_scope(recipe: Any, *scopes: Scope) -> list[str]:
    """List the flags of some scopes.

    Args:
        recipe: The dataclass, or an instance.
        *scopes: The scopes.

    Returns:
        Their names.
    """
    return [f.name for f in dataclasses.fields(recipe) if f.metadata["scope"] in scopes]


def shown_in(recipe: Any, table: str) -> list[str]:
    """List the flags that a table shows.

    Args:
        recipe: The dataclass, or an instance.
        table: `"report"` or `"tensorboard"`.

    Returns:
        Their names.
    """
    return [f.name for f in dataclasses.fields(recipe) if table in f.metadata["shown_in"]]


def choosing_images(recipe: Any) -> list[str]:
    """List the flags on which the images of a run, or their size, depend.

    Args:
        recipe: The dataclass, or an instance.

    Returns:
        Their names.
    """
    return [f.name for f in dataclasses.fields(recipe) if f.metadata["chooses_images"]]


def settings(recipe: Any, part: str) -> dict[str, Any]:
    """Collect what the flags of a recipe set in a part of its rule.

    Args:
        recipe: The recipe.
        part: `"coefficients"` or `"inputs"`.

    Returns:
        Name in that part -> value, of the flags that were given.
    """
    found = {}
    for field in dataclasses.fields(recipe):
        target, value = field.metadata["sets"], getattr(recipe, field.name)
        if target is not None and target[0] == part and value is not None:
            found[target[1]] = value
    return found


def check(recipe: Any) -> None:
    """Check each value against its flag's choices and range.

    Args:
        recipe: The recipe.

    Raises:
        UserError: A value is none of the choices or out of range.
    """
    for field in dataclasses.fields(recipe):
        value, choices = getattr(recipe, field.name), field.metadata["choices"]
        if choices and value is not None and value not in choices:
            raise UserError(
                f"--{field.name}={value} is unknown: choose one of {', '.join(choices)}"
                f"{did_you_mean(value, choices)}"
            )
        if isinstance(value, str) and len(value.splitlines()) > 1:
            raise UserError(
                f"--{name_of(field.name)}={value!r} has a line break, which the file of a run's "
                "flags can't hold: leave it out, or rename the file."
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_number(field, value)


def absolute(recipe: Any, name: str, value: Any) -> Any:
    """Make paths in the value of a flag absolute.

    Args:
        recipe: The dataclass, or an instance.
        name: The flag.
        value: Its value.

    Returns:
        The value; addresses such as `gs://...`, names, and flags without paths as they are.
    """
    kind = recipe.__dataclass_fields__[name].metadata["path"]
    if not value or kind is None or "://" in value:
        return value
    if kind == "files or names":
        parts = [part.strip() for part in value.split(",")]
        return ",".join(_absolute(part) if FILE.fullmatch(part) else part for part in parts)
    return _absolute(value) if kind == "path" or FILE.fullmatch(value) else value


def _absolute(path: str) -> str:
    return str(place(path).absolute())


def _check_number(field: dataclasses.Field, value: float) -> None:
    limits, name = field.metadata, f"--{field.name}={value}"
    if not math.isfinite(value):
        raise UserError(f"{name} must be a finite number.")
    if abs(value) > LARGEST:
        raise UserError(f"{name} must lie within -{LARGEST} and {LARGEST}.")
    if limits["at_least"] is not None and value < limits["at_least"]:
        raise UserError(f"{name} must be at least {limits['at_least']}.")
    if limits["above"] is not None and value <= limits["above"]:
        raise UserError(f"{name} must be greater than {limits['above']}.")
    if limits["at_most"] is not None and value > limits["at_most"]:
        raise UserError(f"{name} must be at most {limits['at_most']}.")
    if limits["below"] is not None and value >= limits["below"]:
        raise UserError(f"{name} must be below {limits['below']}.")


def as_arguments(recipe_class: type, values: Mapping[str, Any]) -> list[str]:
    """Write keywords of Python as command-line arguments.

    Args:
        recipe_class: The dataclass.
        values: Name of a flag, or "flagfile" -> its value; those of `None` are left out.

    Returns:
        The arguments.

    Raises:
        UserError: There is no such flag, or a value is no text, number, truth value or list.
    """
    known = [name_of(field.name) for field in dataclasses.fields(recipe_class)] + ["flagfile"]
    arguments = []
    for keyword, value in values.items():
        name = name_of(keyword)
        if name not in known:
            raise UserError(f"there is no flag {keyword!r}{did_you_mean(name, known)}")
        if isinstance(value, bool):
            arguments.append(f"--{'' if value else 'no'}{name}")
        elif isinstance(value, tuple | list):
            arguments.append(f"--{name}={','.join(map(str, value))}")
        elif isinstance(value, str | numbers.Real | os.PathLike):
            arguments.append(f"--{name}={value}")
        elif value is not None:
            raise UserError(
                f"{keyword} is a {type(value).__name__}, but text or a number was expected, as "
                f"--{name} takes it on the command line: {_text_of(recipe_class, name)}."
            )
    return arguments


def _text_of(recipe_class: type, name: str) -> str:
    """The line of --help of a flag."""
    fields = {name_of(field.name): field for field in dataclasses.fields(recipe_class)}
    return fields[name].metadata["text"] if name in fields else "a file of flags"


def read(recipe_class: type, arguments: list[str]) -> tuple[dict[str, Any], set[str]]:
    """Read the values of flags from command-line arguments.

    Args:
        recipe_class: The dataclass.
        arguments: Without the program's name; `--flagfile=FILE` is read in place.

    Returns:
        Name -> value of all flags, and the names of those that were given.

    Raises:
        UserError: Unknown flags, unreadable values or files.
    """
    values = _flag_values(recipe_class)
    try:
        rest = values(["tfcredit", *arguments])[1:]
    except (flags.Error, OSError) as problem:
        raise UserError(f"{str(problem).rstrip('.')}; --help lists the flags.") from None
    if rest:
        raise UserError(f"{rest[0]!r} is no flag; flags look like --name=value, see --help.")
    names = [field.name for field in dataclasses.fields(recipe_class)]
    found = {name: values[name_of(name)].value for name in names}
    for field in dataclasses.fields(recipe_class):
        value = found[field.name]
        whole = field.metadata["path"] not in (None, "files or names")
        if whole and value is not None and "://" not in value:
            found[field.name] = str(place(value)) if value else value
    return found, {name for name in names if values[name_of(name)].present}


def _flag_values(recipe_class: type) -> flags.FlagValues:
    """The fields as absl flags, in a set of their own."""
    values = flags.FlagValues()
    define = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_boolean,
    }
    hints = get_type_hints(recipe_class)
    for field in dataclasses.fields(recipe_class):
        kind = next(k for k in (*get_args(hints[field.name]), hints[field.name]) if k in define)
        name, text = name_of(field.name), field.metadata["text"]
        define[kind](name, field.default, text, flag_values=values)
    flags.DEFINE_string("flagfile", "", "read flags from this file", flag_values=values)
    return values


def usage(recipe_class: type, program: str) -> str:
    """Write the help text: flags in groups.

    Args:
        recipe_class: The dataclass.
        program: What the user called.

    Returns:
        Lines of at most 100 characters.
    """
    lines = [f"usage: {program} [--flagfile=FILE] [--FLAG=VALUE ...]"]
    group = None
    for field in dataclasses.fields(recipe_class):
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"{group}:"]
        default = "" if field.default in (None, "") else f" [{field.default}]"
        choices = f" ({', '.join(field.metadata['choices'])})" if field.metadata["choices"] else ""
        text = f"{field.metadata['text']}{choices}{default}"
        lines += textwrap.wrap(
            text, 100, initial_indent=f"  --{name_of(field.name):<25}", subsequent_indent=" " * 29
        )
    return "\n".join(lines)
