"""Docstrings of the public interface: shapes of tensors, and the errors that users can cause."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "tfcredit"
TENSORS = ("layers", "connections", "rules")
TENSOR = re.compile(r"\b(Keras)?Tensor\b|\bVariable\b|\bndarray\b|\bLayerState\b")
# "[n, ..., fan_in]", "(height, width, 3)" or words: "shape (n,)", "a scalar", "B's shape".
SHAPE = re.compile(
    r"[\[(](?:[a-z]\w*|\*\w+|\.\.\.)(?:,| [*+] )[^\])]*[\])]|\bshapes?\b|\bscalars?\b"
)
SPECIAL = {"__init__", "__call__", "__post_init__"}
"""Methods whose sections may stand in the docstring of their class."""


def public(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef, str]]:
    """Name, node and docstring of the public classes, functions and methods of a module."""
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        own = ast.get_docstring(node) or ""
        yield node.name, node, own
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                text = ast.get_docstring(method) or ""
                if method.name in SPECIAL:
                    yield f"{node.name}.{method.name}", method, own + text
                elif not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, text


def modules(*folders: str) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            yield str(path.relative_to(PACKAGE)), path


def share(counted: dict[str, bool]) -> float:
    return sum(counted.values()) / len(counted)


def missing(counted: dict[str, bool]) -> str:
    return ", ".join(name for name, there in counted.items() if not there)


def takes_tensors(node: ast.FunctionDef | ast.ClassDef, docstring: str) -> bool:
    """True for public functions and methods with a tensor in their signature, and for layers and
    connections; not for methods that refer to the one that they override."""
    if isinstance(node, ast.ClassDef):
        return any(re.search("Connection|Layer", ast.unparse(base)) for base in node.bases)
    if node.name in SPECIAL or docstring.startswith("See "):
        return False
    hints = [each.annotation for each in (*node.args.args, *node.args.kwonlyargs)]
    return any(TENSOR.search(ast.unparse(hint)) for hint in (*hints, node.returns) if hint)


def states_shapes() -> dict[str, bool]:
    return {
        f"{module} {name}": bool(SHAPE.search(docstring))
        for module, path in modules(*TENSORS)
        for name, node, docstring in public(path)
        if takes_tensors(node, docstring)
    }


def raises_errors(node: ast.FunctionDef) -> bool:
    """True if the function's own code, not that of functions inside, raises a `UserError`."""
    inside = {
        id(each)
        for function in ast.walk(node)
        if isinstance(function, ast.FunctionDef) and function is not node
        for each in ast.walk(function)
    }
    return any(
        isinstance(each, ast.Raise)
        and each.exc is not None
        and ast.unparse(each.exc).startswith("UserError(")
        and id(each) not in inside
        for each in ast.walk(node)
    )


def states_errors() -> dict[str, bool]:
    return {
        f"{module} {name}": "Raises:" in docstring or docstring.startswith("See ")
        for module, path in modules("")
        for name, node, docstring in public(path)
        if isinstance(node, ast.FunctionDef) and raises_errors(node)
    }


def test_docstrings_of_what_takes_tensors_state_shapes():
    found = states_shapes()
    assert len(found) > 30
    assert share(found) >= 0.65, missing(found)


def test_docstrings_of_what_raises_say_so():
    found = states_errors()
    assert len(found) > 30
    assert share(found) >= 0.85, missing(found)
