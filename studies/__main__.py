"""The entry of all studies.

python -m studies                # list them
python -m studies NAME [flags]   # run one
"""

import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence

TABLES = (
    "architectures",
    "authors_flags",
    "calibrated",
    "cheaper_alignment",
    "comparison",
    "direct_rules",
    "imagenet_cost",
    "libraries",
    "local_rules",
    "sequences",
    "stability",
    "thin_feedback",
    "tracking",
    "tracking_angle",
    "transport_budget",
)
"""The studies that make a table or a figure each: modules of this package with a `STUDY`."""
NAMES = (*TABLES, "two_routes")


def listing() -> str:
    """A line for each study, from its docstring; imports none of them."""
    lines = ["python -m studies NAME [flags]", ""]
    for name in NAMES:
        path = pathlib.Path(__file__).with_name(name)
        source = path.with_suffix(".py") if name in TABLES else path / "__init__.py"
        about = ast.get_docstring(ast.parse(source.read_text())).splitlines()[0]
        lines.append(f"  {name:<18} {about}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs the study that the first argument names.

    Args:
        arguments: Of the command line.

    Returns:
        The exit code.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(listing())
        return 0
    name, *rest = arguments
    if name not in NAMES:
        print(f"studies: no study {name!r}: choose of {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    from tfcredit.errors import UserError

    try:
        if name in TABLES:
            importlib.import_module(f"studies.{name}").STUDY.main(rest)
        else:
            importlib.import_module(f"studies.{name}.command").main(rest)
    except UserError as problem:
        print(f"{name}: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
