"""The command `tfcredit report`: one HTML page that compares runs, for any browser, offline.

Example: tfcredit report runs/first runs/second --output=report.html
"""

import argparse

from tfcredit.arguments import ArgumentParser, path
from tfcredit.errors import UserError
from tfcredit.files import written
from tfcredit.startup import import_tensorflow


def main(arguments: list[str], program: str = "tfcredit report") -> None:
    """Runs the command.

    Args:
        arguments: Run directories and flags, without the command's name.
        program: Name for the help text.

    Raises:
        UserError: Wrong flags, no runs, damaged files, an output that can't be written.
        SystemExit: After --help.
    """
    options = _parse(arguments, program)
    import_tensorflow()
    from tfcredit.report.page import page
    from tfcredit.report.reading import read_runs

    runs, notes = read_runs(options.runs)
    output = options.output
    try:
        with written(output) as partial:
            partial.write_bytes(page(runs, notes).encode(errors="replace"))
    except OSError as problem:
        raise UserError(
            f"--output={output} can't be written ({problem.strerror or problem}): give a file in a "
            "folder that is there, that you may write to and whose disk is not full."
        ) from None
    for note in notes:
        print(note)
    print(f"Wrote {output}: {len(runs)} run(s)")


def _parse(arguments: list[str], program: str) -> argparse.Namespace:
    parser = ArgumentParser(program, __doc__)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=path, help="a run directory, or a folder of such")
    add(
        "--output",
        metavar="FILE",
        type=path,
        required=True,
        help="the .html file; replaced if it is there",
    )
    options = parser.parse_args(arguments)
    if options.output.suffix != ".html":
        raise UserError(f"--output={options.output} must end in .html, the format that it has.")
    return options
