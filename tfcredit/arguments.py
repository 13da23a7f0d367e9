"""Flags of the commands: those that ask for help, and the parser of all but `train`."""

import argparse
from typing import NoReturn

from tfcredit.errors import UserError

HELP = frozenset({"--help", "-h", "--helpfull"})
"""Flags that ask for a command's help, which needs no TensorFlow."""


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
