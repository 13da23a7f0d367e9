"""Flags of the commands: those that ask for help, and the parser of all but `train`."""

import argparse
from typing import NoReturn

from tfcredit.errors import UserError

HELP = frozenset({"--help", "-h", "--helpfull"})
"""Flags that ask for a command's help, which needs no TensorFlow."""


class ArgumentParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises `UserError` for wrong flags."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise UserError(f"{message}; --help lists the flags.")
