"""The command `tfcredit train`, also `run_imagenet.py`: train, evaluate or export a run."""

import shlex
import textwrap

from tfcredit.arguments import HELP
from tfcredit.interrupt import StopSignal
from tfcredit.startup import import_tensorflow
from tfcredit.training.flags import usage
from tfcredit.training.known_names import NAMES
from tfcredit.training.recipe import Recipe, parse


def main(arguments: list[str], program: str = "tfcredit train") -> None:
    """Run the command.

    Args:
        arguments: Flags, without the program's name.
        program: Name for the help text.

    Raises:
        UserError: Anything about flags, data or run directory that the user can mend.
    """
    if HELP & set(arguments):
        print(usage(Recipe, program))
        print("\nNames:")
        for flag, names in NAMES.items():
            text = f"  --{flag:<25}{', '.join(names)}"
            print(*textwrap.wrap(text, 100, subsequent_indent=" " * 29), sep="\n")
        return
    recipe, given = parse(arguments)
    if recipe.mode in ("evaluate", "export"):
        _use(recipe, given)
        return
    with StopSignal() as stop:  # from the start: TensorFlow's import alone takes seconds
        import_tensorflow()
        from tfcredit.training.run import Run

        run = Run(recipe)
        summary = run.train(stop)
        if summary is not None and run.cluster.is_chief:
            _print_summary(summary, run.directory)


def _use(recipe: Recipe, given: set[str]) -> None:
    """Evaluate or export a run."""
    import_tensorflow()
    from tfcredit.training.run import Run

    run = Run(recipe, given=given)
    if recipe.mode == "evaluate":
        for results in run.evaluate():
            _print_results(results)
    else:
        for kind, path in run.export().items():
            print(f"Exported {kind}: {path}")


def _print_results(results: dict) -> None:
    print(
        f"Step {results['step']}: {results.get('part', 'test')} top-1 {results['top1']:.4f}, "
        f"top-5 {results['top5']:.4f}, loss {results['loss']:.4f}",
        flush=True,
    )


def _print_summary(summary: dict, directory) -> None:
    print(f"Data: {summary['data']}")
    for layer, angle in summary["angles"].items():
        print(f"  angle of W and B, {layer}: {angle:.1f} degrees")
    if summary["mean_angle"] is not None:
        print(f"  mean angle: {summary['mean_angle']:.1f} degrees")
    if "validation_top1" in summary:
        print(f"Validation top-1 {summary['validation_top1']:.4f}")
    _print_results(summary)
    print(f"Run directory: {directory.path}")
    print(f"Watch it: tensorboard --logdir {shlex.quote(str(directory.tensorboard))}")
