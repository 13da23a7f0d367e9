"""`tfcredit prepare-imagenet`: from ImageNet as you have it to TFRecord shards.

The source is the folder of the archives of image-net.org, of folders by synset, of Kaggle's copy,
of Hugging Face's Parquet files or of WebDataset's tars; or Kaggle's zip. Nothing is unpacked: an
index says where every image is, then each shard is gathered. What a killed run has finished, the
next one keeps.
"""

import argparse
import os

from tfcredit.arguments import ArgumentParser
from tfcredit.errors import UserError
from tfcredit.startup import import_tensorflow

MAX_SHARDS = 99_999
"""The names have five digits."""


def main(arguments: list[str], program: str = "tfcredit prepare-imagenet") -> None:
    """Runs the command.

    Args:
        arguments: Flags, without the command's name.
        program: Name for the help text.

    Raises:
        UserError: Wrong flags; a source that is missing, damaged or another set; an output folder
            that can't be written or holds another set.
        SystemExit: After --help.
    """
    options = _parse(arguments, program)
    import_tensorflow()
    from tfcredit.prepare.preparing import run

    run(options)


def _parse(arguments: list[str], program: str) -> argparse.Namespace:
    parser = ArgumentParser(program, __doc__)
    add = parser.add_argument
    add("--source", metavar="DIR|FILE", help="ImageNet in one of these layouts")
    add("--output", metavar="DIR", required=True, help="folder for the shards")
    add("--train_shards", type=int, default=1024, help="[1024]")
    add("--validation_shards", type=int, default=128, help="[128]")
    add("--seed", type=int, default=0, help="of the images' order [0]")
    add(
        "--validation_labels",
        metavar="FILE",
        type=os.path.expanduser,
        help="of archives: a synset per line, for validation images 1, 2, ... [ILSVRC2012's own]",
    )
    add("--check_archives", action="store_true", help="say whether they are the official ones")
    add("--verify", action="store_true", help="only check the shards against SHA256SUMS")
    options = parser.parse_args(arguments)
    for flag in ("train_shards", "validation_shards"):
        if not 1 <= getattr(options, flag) <= MAX_SHARDS:
            raise UserError(
                f"--{flag}={getattr(options, flag)} is outside 1 to {MAX_SHARDS}: choose a number "
                "of shards in that range."
            )
    if options.seed < 0:
        raise UserError(f"--seed={options.seed} is negative: choose one of at least 0.")
    for flag in ("source", "output"):
        if "://" in (getattr(options, flag) or ""):
            raise UserError(
                f"--{flag}={getattr(options, flag)} is no local folder: prepare the shards on a "
                "disk and copy them to the bucket afterwards."
            )
    if options.source is None and not options.verify:
        raise UserError(
            "--source is missing: give the folder of ImageNet's images or archives; --help lists "
            "the layouts."
        )
    return options
