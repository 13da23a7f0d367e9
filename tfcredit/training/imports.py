"""Rules and primitives of the user's own: files and modules that `--import` names."""

import importlib
import importlib.util
import os
import pathlib
import sys
import traceback
import types
import zlib

from tfcredit.errors import UserError
from tfcredit.primitives import PRIMITIVES
from tfcredit.rules.registry import registered

_REGISTERED: dict[str, set[str]] = {}
"""What was imported -> the names that it registered."""


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


def _import(name: str) -> None:
    path = pathlib.Path(name).expanduser().resolve() if name.endswith(".py") else None
    key = name if path is None else str(path)
    if key in _REGISTERED and _REGISTERED[key] <= _known().keys():
        return
    before = _known()
    try:
        _run_file(path) if path else _run_module(name)
    except (Exception, SystemExit) as problem:
        raise UserError(f"--import={name} {_told(problem, path, name)}") from None
    new = {known for known, what in _known().items() if before.get(known) is not what}
    if not new:
        raise UserError(
            f"--import={name} registers no rule and no primitive: define one in it by "
            "rules.register, rules.from_function or primitives.register."
        )
    _REGISTERED[key] = new


def _known() -> dict[str, object]:
    return {**registered(), **PRIMITIVES}


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


def _told(problem: BaseException, path: pathlib.Path | None, name: str) -> str:
    """What went wrong, for the end of a sentence."""
    if path is not None and not path.is_file():
        return "is no file: give a Python file that is there, or the name of a module."
    if isinstance(problem, ModuleNotFoundError) and problem.name == name.split(".")[0]:
        return "is no module that Python finds: give a file that ends in .py, or install it."
    frames = traceback.extract_tb(problem.__traceback__)
    mine = [frame for frame in frames if path is not None and frame.filename == str(path)]
    where = f" at line {mine[-1].lineno}" if mine else ""
    text = " ".join(str(problem).split())
    return f"raises {type(problem).__name__}{where} ({text}): mend it."
