"""Searches for the flags that train best, with Optuna: the command `tfcredit search`."""

import importlib.util

from tfcredit.errors import UserError

if None in map(importlib.util.find_spec, ("matplotlib", "optuna")):
    raise UserError("tfcredit search needs optuna and matplotlib: pip install 'tfcredit[search]'.")
