"""The command line: `run_imagenet.py` and `tfcredit`."""

import difflib
import os
import sys

from tfcredit.errors import UserError

COMMANDS = {
    "train": "train, evaluate or export as the flags say",
    "prepare-imagenet": "make ready shards of the official archives of ILSVRC2012",
    "import-reference": "make a .keras file of a checkpoint of the paper's authors",
    "report": "write one HTML page that compares runs",
    "search": "search for the flags that train best, with Optuna",
}


def train_main(arguments: list[str] | None = None, program: str = "run_imagenet.py") -> int:
    """Train or evaluate as the flags say.

    Args:
        arguments: Flags; default: those of the process.
        program: Name for the help text.

    Returns:
        The exit code: 0 done, 2 the user can fix it. Anything else is a bug of ours.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow is imported below
    try:
        from tfcredit.training.recipe import parse, usage

        if {"--help", "-h", "--helpfull"} & set(arguments):
            print(usage(program))
            return 0
        recipe, _ = parse(arguments)
        from tfcredit.training.run import Run

        run = Run(recipe)
        if recipe.mode == "evaluate":
            for results in run.evaluate():
                _print_results(results)
        elif recipe.mode == "export":
            for kind, path in run.export().items():
                print(f"Exported {kind}: {path}")
        else:
            summary = run.train()
            if summary is not None and run.cluster.is_chief:
                _print_summary(summary, run.directory)
    except UserError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return 2
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The console script `tfcredit COMMAND`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else "--help"
    if command in ("--help", "-h", "help"):
        print("usage: tfcredit COMMAND [--FLAG=VALUE ...]   (tfcredit COMMAND --help: its flags)\n")
        for name, text in COMMANDS.items():
            print(f"  {name:<18}{text}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        print(
            f"tfcredit: unknown command {command!r}{hint} Known: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    if command == "train":
        return train_main(arguments[1:], "tfcredit train")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow is imported below
    try:
        if command == "prepare-imagenet":
            from tfcredit.data.prepare import main as run
        elif command == "report":
            from tfcredit.report.command import main as run
        elif command == "search":
            from tfcredit.search.command import main as run
        else:
            from tfcredit.convert.importing import main as run
        run(arguments[1:])
    except UserError as problem:
        print(f"tfcredit {command}: {problem}", file=sys.stderr)
        return 2
    return 0


def _print_results(results: dict) -> None:
    print(
        f"Step {results['step']}: test top-1 {results['top1']:.4f}, "
        f"top-5 {results['top5']:.4f}, loss {results['loss']:.4f}",
        flush=True,
    )


def _print_summary(summary: dict, directory) -> None:
    print(f"Data: {summary['data']}")
    for layer, angle in summary["angles"].items():
        print(f"  angle of W and B, {layer}: {angle:.1f} degrees")
    if summary["mean_angle"] is not None:
        print(f"  mean angle: {summary['mean_angle']:.1f} degrees")
    _print_results(summary)
    print(f"Run directory: {directory.path}")
    print(f"Watch it: tensorboard --logdir {directory.tensorboard}")
