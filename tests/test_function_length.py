"""No function of the package is longer than a page."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "tfcredit"
LONGEST = 60
"""Lines of a function, its docstring left out."""


def test_functions_are_short():
    long = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                last_of_docstring = node.body[0].end_lineno if ast.get_docstring(node) else 0
                first_of_docstring = node.body[0].lineno if last_of_docstring else 1
                lines = node.end_lineno - node.lineno - (last_of_docstring - first_of_docstring)
                long[f"{path.relative_to(PACKAGE)} {node.name}"] = lines
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}
