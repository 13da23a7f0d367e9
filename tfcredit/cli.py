"""The command line: `tfcredit COMMAND`, and `run_imagenet.py`, which is `tfcredit train`."""

import functools
import importlib
import os
import sys
from collections.abc import Callable

from tfcredit import __version__
from tfcredit.arguments import HELP
from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.interrupt import EndSignal, Stopped
from tfcredit.screen import Screen
from tfcredit.startup import check_backend

COMMANDS = {
    "train": ("tfcredit.training", "train, evaluate or export as the flags say"),
    "evaluate": ("tfcredit.evaluate", "top-1, top-5 and loss of a network on a set of images"),
    "prepare-imagenet": (
        "tfcredit.prepare",
        "make ready shards of the official archives of ILSVRC2012",
    ),
    "import-reference": (
        "tfcredit.convert",
        "make a .keras file of a checkpoint of the paper's authors",
    ),
    "compare": (
        "tfcredit.comparison",
        "train rules over seeds, and write a table, a figure and a page",
    ),
    "report": ("tfcredit.report", "write one HTML page that compares runs"),
    "search": ("tfcredit.search", "search for the flags that train best, with Optuna"),
}
"""Name -> package whose module `command` runs it, and what it does."""


def main(arguments: list[str] | None = None) -> int:
    """Run the console script `tfcredit COMMAND`.

    Args:
        arguments: The command and its flags. Default: those of the process.

    Returns:
        The exit code: 0 done, or saved as a signal asked for; 2 the user can fix it; stopped with
        nothing to save 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP. Anything else is a bug of
        ours.
    """
    return _told(_main, sys.argv[1:] if arguments is None else arguments, "tfcredit")


def _main(arguments: list[str], program: str) -> int:
    name = arguments[0] if arguments else "--help"
    if name in {*HELP, "help"}:
        print("usage: tfcredit COMMAND [--FLAG=VALUE ...]   (tfcredit COMMAND --help: its flags)")
        print("       tfcredit --version\n")
        for command, (_, text) in COMMANDS.items():
            print(f"  {command:<18}{text}")
        return 0
    if name == "--version":
        print(f"{program} {__version__}")
        return 0
    if name not in COMMANDS:
        print(
            f"{program}: unknown command {name!r}{did_you_mean(name, COMMANDS)} "
            f"Known: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    return run(name, arguments[1:], f"{program} {name}")


def train_main(arguments: list[str] | None = None) -> int:
    """Run `run_imagenet.py`.

    Args:
        arguments: Flags. Default: those of the process.

    Returns:
        The exit code, as `main`'s.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    return _told(functools.partial(run, "train"), arguments, "run_imagenet.py")


def _told(command: Callable[[list[str], str], int], arguments: list[str], program: str) -> int:
    """The exit code of a command that goes on where it can't print."""
    with Screen() as screen, EndSignal():
        code, problem = command(arguments, program), screen.problem
        if code == 0 and problem is not None:
            print(
                f"{program}: what it prints can't be written ({problem.strerror or problem}): free "
                "space, or print elsewhere; all else is done.",
                file=sys.stderr,
            )
            return 2
    return code


def run(name: str, arguments: list[str], program: str) -> int:
    """Run a command, and tell the user's mistakes in one sentence.

    Args:
        name: A key of `COMMANDS`.
        arguments: Its flags.
        program: What the user called, for messages.

    Returns:
        The exit code, as `main`'s.
    """
    # TensorFlow reads it once, when a command imports it: no banners, but errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        if not HELP & set(arguments):
            check_backend()
        importlib.import_module(f"{COMMANDS[name][0]}.command").main(arguments, program)
    except UserError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"{program}: stopped by {stopped.by}.", file=sys.stderr)
        return stopped.code
    return 0
