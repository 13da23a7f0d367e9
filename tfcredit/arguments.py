"""Flags of the commands that are no training runs."""

import argparse
from typing import NoReturn

from tfcredit.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises `UserError` for wrong flags."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise UserError(f"{message}; --help lists the flags.")
