"""The command `tfcredit evaluate`: top-1, top-5 and loss of a classifier, all images once.

Test images are evaluated; of a folder without parts all images. A run and its checkpoints have
flags of their own; those that are given here stand above them.

Example: tfcredit evaluate --model=runs/first --dataset=folder --data_dir=photos
"""

import argparse
import dataclasses

from tfcredit.arguments import ArgumentParser, path
from tfcredit.errors import UserError
from tfcredit.startup import import_tensorflow
from tfcredit.training.flags import name_of
from tfcredit.training.recipe import Recipe, parse

FLAGS = (
    "dataset",
    "data_dir",
    "batch_size",
    "preprocessing",
    "image_size",
    "max_corrupt_records",
    "import_",
)
"""Flags of `tfcredit train` that the command has too."""


def main(arguments: list[str], program: str = "tfcredit evaluate") -> None:
    """Runs the command.

    Args:
        arguments: Flags, without the command's name.
        program: Name for the help text.

    Raises:
        UserError: Wrong flags; a file that is no classifier; images that are not there or that
            don't fit the network; an output that can't be written.
        SystemExit: After --help.
    """
    options, recipe, given = _parse(arguments, program)
    import_tensorflow()
    from tfcredit.evaluate.evaluating import run

    run(options.model, recipe, given, options.output)


def _parse(
    arguments: list[str], program: str
) -> tuple[argparse.Namespace, Recipe, dict[str, object]]:
    """The command's own flags; the recipe of the others, and those that were given."""
    parser = ArgumentParser(program, __doc__)
    add = parser.add_argument
    add(
        "--model",
        metavar="FILE|RUN",
        type=lambda model: str(path(model)),
        required=True,
        help="a .keras file, a run directory, a checkpoint of a run, or FILE.py:FUNCTION or "
        "MODULE:FUNCTION that makes a network",
    )
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    texts = {name: fields[name].metadata["text"] for name in FLAGS}
    texts["batch_size"] = "images per batch; default: the run's, else 128"
    for name, text in texts.items():
        add(f"--{name_of(name)}", dest=name, default=argparse.SUPPRESS, help=text)
    add("--output", metavar="FILE", type=path, help="write the results to this .json file")
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.suffix != ".json":
        raise UserError(f"--output={options.output} must end in .json, the format that it has.")
    if options.output is not None and not options.output.parent.is_dir():
        raise UserError(
            f"--output={options.output} can't be written, as the folder {options.output.parent} "
            "is missing: make it, or give another file."
        )
    rest = [
        f"--{name_of(name)}={getattr(options, name)}" for name in FLAGS if hasattr(options, name)
    ]
    recipe, given = parse(rest)
    return options, recipe, {name: getattr(recipe, name) for name in given}
