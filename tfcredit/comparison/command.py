"""The command `tfcredit compare`: trains each rule with some seeds, and tells which is better.

Each rule and seed is a run, in a process of its own. All flags of `tfcredit train` but those of a
single run (--rule, --seed, --resume, ...) say what the runs have in common. The same command goes
on with a comparison that was stopped or killed. docs/comparing.md has the rest.

Example: tfcredit compare --rules=backprop,tracking_mirror --seeds=5 --jobs=2 --model=fc --epochs=3
"""

import argparse

from tfcredit.arguments import ArgumentParser, path
from tfcredit.startup import import_tensorflow


def main(arguments: list[str], program: str = "tfcredit compare") -> None:
    """Runs the command.

    Args:
        arguments: Flags, without the command's name.
        program: Name for the help text.

    Raises:
        UserError: Wrong flags or rules, another comparison in the folder or at work on it, a run
            that crashes.
        SystemExit: After --help.
    """
    options, rest = _parse(arguments, program)
    import_tensorflow()
    from tfcredit.comparison.comparing import run

    run(options.rules, options.seeds, options.jobs, options.compare_dir, rest)


def _parse(arguments: list[str], program: str) -> tuple[argparse.Namespace, list[str]]:
    """The command's own flags, and the others."""
    parser = ArgumentParser(program, __doc__)
    add = parser.add_argument
    add(
        "--rules",
        metavar="RULE,RULE,...",
        required=True,
        help="what to compare, each as --rule of tfcredit train takes it",
    )
    add("--seeds", metavar="N", type=int, default=3, help="runs of each rule; default 3")
    add("--jobs", metavar="N", type=int, default=1, help="runs at a time; default 1")
    add(
        *("--compare_dir", "--run_dir"),
        metavar="DIR",
        type=path,
        help="folder of the comparison; default runs/compare",
    )
    return parser.parse_known_args(arguments)
