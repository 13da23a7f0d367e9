"""The command `tfcredit search`: trains runs of different flags, to find those that train best.

All flags of `tfcredit train` but those of a single run (--run_dir, --resume, ...) say what the
runs have in common; --seed is that of the search. The same command goes on with a search that was
stopped or killed. With --storage the same command on several machines searches together.
docs/search.md has the rest.

Example: tfcredit search --rule=weight_mirror --model=fc --epochs=3 --trials=20 --jobs=2
"""

import argparse
import os

from tfcredit.arguments import ArgumentParser, path
from tfcredit.errors import UserError
from tfcredit.startup import import_tensorflow


def main(arguments: list[str], program: str = "tfcredit search") -> None:
    """Runs the command.

    Args:
        arguments: Flags, without the command's name.
        program: Name for the help text.

    Raises:
        UserError: Wrong flags or space, another search in the folder or at work on it, a storage
            that can't be used, no trial that came to the end.
        SystemExit: After --help.
    """
    options, rest = _parse(arguments, program)
    import_tensorflow()
    from tfcredit.search.searching import search

    search(options, rest)


def _parse(arguments: list[str], program: str) -> tuple[argparse.Namespace, list[str]]:
    """The command's own flags, and the others."""
    parser = ArgumentParser(program, __doc__)
    add = parser.add_argument
    add(
        "--space",
        metavar="FILE",
        type=os.path.expanduser,
        help="what to search, .json or .toml; default: the rule's own",
    )
    add("--trials", metavar="N", type=int, default=20, help="trials in all; default 20")
    add("--jobs", metavar="N", type=int, default=1, help="trials at a time, here; default 1")
    add(
        "--study_dir",
        metavar="DIR",
        type=path,
        help="folder of the search; default runs/search-RULE",
    )
    add(
        "--storage",
        metavar="URL",
        help="where the trials are kept, for several machines: postgresql://USER@HOST/DATABASE, "
        "mysql://..., sqlite:////FOLDER/FILE, grpc://HOST:PORT (Optuna's proxy); default: a file "
        "in the folder, for one",
    )
    add("--study_name", metavar="NAME", help="in --storage; default tfcredit")
    options, rest = parser.parse_known_args(arguments)
    if options.study_name is not None and options.storage is None:
        raise UserError(
            f"--study_name={options.study_name} is the name of a study in --storage: give that "
            "too, or another --study_dir."
        )
    options.study_name = options.study_name or "tfcredit"
    for name in ("trials", "jobs"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}={getattr(options, name)} must be at least 1.")
    return options, rest
