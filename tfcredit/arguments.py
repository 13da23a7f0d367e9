"""Flags of the commands: those that ask for help, and the parser of all but `train`."""

import argparse
import pathlib
from typing import NoReturn

from tfcredit.errors import UserError
from tfcredit.files import place

HELP = frozenset({"--help", "-h", "--helpfull"})
"""Flags that ask for a command's help, which needs no TensorFlow."""


def path(text: str) -> pathlib.Path:
    """The `type` of a flag that is a path.

    Args:
        text: The flag's value.

    Returns:
        What `tfcredit.files.place` makes of it.

    Raises:
        argparse.ArgumentTypeError: As `place`, of whose own error argparse would tell nothing.
    """
    try:
        return place(text)
    except UserError as problem:
        raise argparse.ArgumentTypeError(str(problem).rstrip(".")) from None


class ArgumentParser(argparse.ArgumentParser):
    """The parser of a command: it takes whole names only, and raises `UserError` for wrong flags.

    Args:
        prog: What the user called.
        description: Shown as it is written: the docstring of a command's module.
    """

    def __init__(self, prog: str, description: str | None):
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, allow_abbrev=False, formatter_class=layout)

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise UserError(f"{message}; --help lists the flags.")
