"""Code of the user's own: files and modules that `--import` and `--model` name."""

import importlib
import importlib.util
import inspect
import os
import pathlib
import sys
import traceback
import types
import zlib
from collections.abc import Callable

import keras

from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.files import place
from tfcredit.primitives import PRIMITIVES
from tfcredit.rules.registry import registered

_REGISTERED: dict[str, set[str]] = {}
"""What was imported -> the names that it registered."""
_MODULES: dict[str, types.ModuleType] = {}
"""What was imported -> its module."""


def import_own(names_of_code: str | None) -> None:
    """Import what `--import` names; what is known already is not imported again.

    Args:
        names_of_code: Files that end in `.py` and modules, with commas between them; or `None`.

    Raises:
        UserError: There is no such file or module, it raises an exception, or registers nothing.
    """
    for name in (names_of_code or "").split(","):
        if name := name.strip():
            _import(name)


def import_function(name: str, flag: str) -> Callable:
    """Import a function; a module that was imported already is not imported again.

    Args:
        name: `FILE.py:FUNCTION` or `MODULE:FUNCTION`.
        flag: What the user wrote, for errors: `--model=FILE.py:FUNCTION`.

    Returns:
        The function.

    Raises:
        UserError: There is no such file, module or function, or it raises an exception.
    """
    code, _, function = name.rpartition(":")
    key, path = _key(code)
    if path is None and code in sys.modules:
        _MODULES[key] = sys.modules[code]
    elif key not in _MODULES:
        _load(key, path, code, flag)
    found = getattr(_MODULES[key], function, None)
    if not callable(found):
        known = [n for n, one in vars(_MODULES[key]).items() if inspect.isfunction(one)]
        raise UserError(
            f"{flag}: {code} has no function {function!r}{did_you_mean(function, known)} It has: "
            f"{', '.join(known) or 'none'}."
        )
    return found


def _import(name: str) -> None:
    key, path = _key(name)
    if key in _REGISTERED and _REGISTERED[key] <= _known().keys():
        return
    before = _known()
    _load(key, path, name, f"--import={name}")
    new = {known for known, what in _known().items() if before.get(known) is not what}
    if not new:
        raise UserError(
            f"--import={name} registers no rule, no primitive and no class: define one in it by "
            "rules.register, rules.from_function, primitives.register or "
            "keras.saving.register_keras_serializable."
        )
    _REGISTERED[key] = new


def _key(name: str) -> tuple[str, pathlib.Path | None]:
    """What is imported under one name, and its path if it is a file."""
    if not name.endswith(".py"):
        return name, None
    path = place(name).resolve()
    return str(path), path


def _load(key: str, path: pathlib.Path | None, name: str, flag: str) -> None:
    try:
        _MODULES[key] = _run_file(path) if path else _run_module(name)
    except (Exception, SystemExit) as problem:
        raise UserError(f"{flag} {told(problem, path, name)}") from None


def _known() -> dict[str, object]:
    return {**registered(), **PRIMITIVES, **keras.saving.get_custom_objects()}


def _run_file(path: pathlib.Path) -> types.ModuleType:
    """Import a file, which may import others beside it."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"{path.stem}_{zlib.crc32(str(path).encode()):08x}"  # that of no other module
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _run_module(name: str) -> types.ModuleType:
    """Import a module, of the working directory too, as `python -m` does."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    sys.modules.pop(name, None)  # it was imported, but what it registered is gone
    return importlib.import_module(name)


def told(problem: BaseException, path: pathlib.Path | None, name: str) -> str:
    """What went wrong in code of the user's own.

    Args:
        problem: What it raised.
        path: Its file; `None` for a module.
        name: As the user called it.

    Returns:
        The end of a sentence.
    """
    if path is not None and not path.is_file():
        return "is no file: give a Python file that is there, or the name of a module."
    if isinstance(problem, ModuleNotFoundError) and problem.name == name.split(".")[0]:
        return "is no module that Python finds: give a file that ends in .py, or install it."
    frames = traceback.extract_tb(problem.__traceback__)
    mine = [frame for frame in frames if path is not None and frame.filename == str(path)]
    where = f" at line {mine[-1].lineno}" if mine else ""
    text = " ".join(str(problem).split())
    return f"raises {type(problem).__name__}{where} ({text}): mend it."
