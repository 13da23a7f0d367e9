"""The work of `tfcredit prepare-imagenet`."""

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tfcredit.errors import UserError
from tfcredit.ilsvrc2012 import ARCHIVES, IMAGES
from tfcredit.prepare.archives import Index, index_train, index_validation, official
from tfcredit.prepare.plan import agree, locked, plan_of, write_plan
from tfcredit.prepare.shards import (
    SUMS,
    deal,
    shard_names,
    verify,
    write_shard,
    write_sums,
)
from tfcredit.prepare.synsets import synsets, validation_synsets

REPORT_SECONDS = 10.0


def run(options: argparse.Namespace) -> None:
    """Prepares the shards, or checks them.

    Args:
        options: The command's flags.

    Raises:
        UserError: Archives that are missing, damaged or others; an output folder that can't be
            written or holds another set.
    """
    output = Path(options.output).expanduser()
    try:
        if options.verify:
            count = verify(output, _Progress("verify", "shards"))
            print(f"{output}: all {count} shards are as {SUMS} says.")
        else:
            _prepare(options, output)
    except OSError as problem:  # those of the shards themselves have a message of their own
        raise UserError(
            f"{problem.filename or output} can't be used ({problem.strerror}): give folders that "
            "you may read (--source) and write (--output)."
        ) from None


def _prepare(options: argparse.Namespace, output: Path) -> None:
    shards = {"train": options.train_shards, "validation": options.validation_shards}
    archives = _archives(Path(options.source).expanduser())
    classes, labels = synsets(), validation_synsets(options.validation_labels)
    if options.check_archives:
        _check_archives(archives)
    plan = plan_of(archives, shards, options.seed, labels)
    with locked(output):
        agree(output, plan)
        if (output / SUMS).exists():
            print(f"{output} is complete already; --verify checks it.")
            return
        indexes = _indexes(archives, classes, labels)
        _check_sizes(output, indexes, shards)
        write_plan(output, plan)
        for part, index in indexes.items():
            _write_part(output, part, index, shards[part], options.seed, classes)
        write_plan(output, plan, {part: len(index.entries) for part, index in indexes.items()})
        names = [name for part in shards for name in shard_names(part, shards[part])]
        write_sums(output, names, _Progress("checksums", "shards"))
    print(f"Done: python run_imagenet.py --dataset=imagenet --data_dir={output}")


def _archives(source: Path) -> dict[str, Path]:
    archives = {part: source / name for part, name in ARCHIVES.items()}
    for path in archives.values():
        if not path.is_file():
            raise UserError(
                f"{path} was not found: give the folder of {' and '.join(ARCHIVES.values())}, "
                "which image-net.org gives to registered users, as --source."
            )
    return archives


def _check_archives(archives: dict[str, Path]) -> None:
    for part, path in archives.items():
        print(f"{path}: reading {path.stat().st_size:,} bytes ...", flush=True)
        word = "the official archive" if official(path, part) else "NOT the official archive (MD5)"
        print(f"{path} is {word}.", flush=True)


def _indexes(
    archives: dict[str, Path], classes: Sequence[str], labels: Sequence[str]
) -> dict[str, Index]:
    progress = _Progress("finding the training images", "bytes")
    indexes = {
        "train": index_train(archives["train"], classes, progress),
        "validation": index_validation(archives["validation"], classes, labels),
    }
    for part, index in indexes.items():
        images, whole = len(index.entries), IMAGES[part]
        present = len(set(index.entries["label"].tolist()))
        note = "" if images == whole else f" (ILSVRC2012 has {whole:,}: this is another set)"
        print(f"{part}: {images:,} images{note} of {present} classes", flush=True)
    return indexes


def _check_sizes(output: Path, indexes: dict[str, Index], shards: dict[str, int]) -> None:
    missing = 0
    for part, index in indexes.items():
        images = len(index.entries)
        if shards[part] > images:
            raise UserError(
                f"--{part}_shards={shards[part]} is more than the {images} images of {part}: "
                f"choose at most {images}."
            )
        names = shard_names(part, shards[part])
        to_do = sum(not (output / name).exists() for name in names)
        missing += int(index.entries["size"].sum()) * to_do // len(names)
    free = shutil.disk_usage(output).free
    if missing > free:
        raise UserError(
            f"{output} has {free / 1e9:.1f} GB free, but the shards need {missing / 1e9:.1f} GB: "
            "free space or choose another --output."
        )


def _write_part(
    output: Path, part: str, index: Index, shards: int, seed: int, classes: Sequence[str]
) -> None:
    progress = _Progress(part, "shards")
    hands = deal(len(index.entries), shards, seed, part)
    for number, (name, rows) in enumerate(zip(shard_names(part, shards), hands, strict=True), 1):
        if not (output / name).exists():
            write_shard(output / name, index, rows, classes)
        progress(number, shards)


class _Progress:
    """Prints a line every 10 seconds and at the end: as useful in a log file as on a screen."""

    def __init__(self, task: str, unit: str) -> None:
        self._task, self._unit = task, unit
        self._started = self._printed = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._printed < REPORT_SECONDS and done < of:
            return
        self._printed = now
        left = (now - self._started) / max(done, 1) * (of - done)
        text = f"{self._task}: {done:,} of {of:,} {self._unit}"
        print(text + (f", {left / 60:.1f} minutes left" if done < of else ""), flush=True)
