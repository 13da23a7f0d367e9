"""The command `tfcredit import-reference`: a `.keras` file of a checkpoint of the paper's authors.

Example: tfcredit import-reference --checkpoint=DIR/model.ckpt-450360 --rule=symmetric_alignment
--output=resnet18.keras
"""

import argparse
import os

from tfcredit.arguments import ArgumentParser
from tfcredit.errors import UserError
from tfcredit.files import place, written
from tfcredit.startup import import_tensorflow


def main(arguments: list[str], program: str = "tfcredit import-reference") -> None:
    """Runs the command; it prints what was matched, missing and left over.

    Args:
        arguments: Flags, without the command's name.
        program: Name for the help text.

    Raises:
        UserError: Wrong flags; files that are missing, damaged or of another network; an output
            that exists or can't be written.
        SystemExit: After --help.
    """
    options = _parse(arguments, program)
    output = place(options.output)
    import_tensorflow()
    from tfcredit import convert, models, rules

    rules.get(options.rule)  # tells a wrong name before the checkpoint is read
    network = convert.reference_network(options.checkpoint, scope=options.scope)
    if options.model is not None:
        network["name"] = options.model
    model = models.get(**network, rule=options.rule)
    print(
        convert.load_reference_checkpoint(model, options.checkpoint, scope=options.scope),
        flush=True,
    )
    try:
        with written(output) as partial:
            model.save(partial)
    except OSError as problem:
        raise UserError(
            f"{output} can't be written ({problem.strerror or problem}): give a file in a folder "
            "that is there, that you may write to and whose disk is not full."
        ) from None
    print(f"Wrote {output}: tfcredit.models.load({str(output)!r})")


def _parse(arguments: list[str], program: str) -> argparse.Namespace:
    parser = ArgumentParser(program, __doc__)
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="PREFIX",
        type=os.path.expanduser,
        required=True,
        help="such as DIR/model.ckpt-450360",
    )
    add("--output", metavar="FILE", required=True, help="the .keras file")
    add("--rule", default="feedback_alignment", help="of the feedback layers [%(default)s]")
    add("--model", help="the network [the one that the checkpoint holds]")
    add("--scope", help="before the names, such as model_0/ [found by itself]")
    options = parser.parse_args(arguments)
    if not options.output.endswith(".keras"):
        raise UserError(f"--output={options.output} must end in .keras, the format that it has.")
    if place(options.output).exists():
        raise UserError(f"--output={options.output} exists: choose a new file or remove it.")
    return options
