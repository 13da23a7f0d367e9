"""The work of `tfcredit prepare-imagenet`."""

import argparse
import os
import shlex
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tfcredit.data.layouts import archives
from tfcredit.data.layouts.cache import Parts
from tfcredit.data.layouts.finding import EXPECTED, Layout, find, indexed
from tfcredit.data.layouts.images import Images
from tfcredit.data.synsets import synsets, validation_synsets
from tfcredit.errors import UserError
from tfcredit.files import place
from tfcredit.ilsvrc2012 import IMAGES
from tfcredit.prepare.plan import (
    agree,
    locked,
    plan_of_archives,
    plan_of_images,
    write_plan,
)
from tfcredit.prepare.shards import (
    BLOCK,
    SUMS,
    deal,
    shard_names,
    verify,
    write_shard,
    write_sums,
)

REPORT_SECONDS = 10.0


def run(options: argparse.Namespace) -> None:
    """Prepares the shards, or checks them.

    Args:
        options: The command's flags.

    Raises:
        UserError: A source that is missing, damaged or another set; an output folder that can't
            be written or holds another set.
    """
    output = place(options.output)
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
    layout = _layout(place(options.source), options)
    plan, index = _planned(layout, options)
    plan |= {"shards": shards, "seed": options.seed}
    with locked(output):
        agree(output, plan)
        if (output / SUMS).exists():
            print(f"{output} is complete already; --verify checks it.")
            return
        parts = index()
        _tell(parts)
        _check_sizes(output, parts, shards)
        write_plan(output, plan)
        for part, images in parts.items():
            _write_part(output, part, images, shards[part], options.seed)
        write_plan(output, plan, {part: len(images) for part, images in parts.items()})
        names = [name for part in shards for name in shard_names(part, shards[part])]
        write_sums(output, names, _Progress("checksums", "shards"))
    print(f"Done: tfcredit train --dataset=imagenet --data_dir={shlex.quote(str(output))}")


def _layout(source: Path, options: argparse.Namespace) -> Layout:
    layout = find(source)
    if layout is None:
        raise UserError(
            f"{source} holds no ImageNet in a layout that is known, but {EXPECTED} were looked "
            "for: give their folder as --source."
        )
    for flag in ("validation_labels", "check_archives"):
        if getattr(options, flag) and layout.name != "archives":
            raise UserError(
                f"--{flag} is for the archives of image-net.org, but {layout.root} holds "
                f"{layout.what}: leave it out."
            )
    return layout


def _planned(
    layout: Layout, options: argparse.Namespace
) -> tuple[dict[str, Any], Callable[[], Parts]]:
    """What the shards depend on, and a function that finds the images."""
    if layout.name != "archives":
        parts = indexed(layout)
        return plan_of_images(parts), lambda: parts
    found, labels = archives.paths(layout.root), validation_synsets(options.validation_labels)
    if options.check_archives:
        _check_archives(found)
    progress = _Progress("finding the training images", "bytes")
    plan = plan_of_archives(found, labels)
    return plan, lambda: archives.index(layout.root, labels, progress)


def _check_archives(paths: dict[str, Path]) -> None:
    for part, path in paths.items():
        print(f"{path}: reading {path.stat().st_size:,} bytes ...", flush=True)
        word = (
            "the official archive"
            if archives.official(path, part)
            else "NOT the official archive (MD5)"
        )
        print(f"{path} is {word}.", flush=True)


def _tell(parts: Parts) -> None:
    for part, images in parts.items():
        whole = IMAGES[part]
        present = len(set(images.entries["label"].tolist()))
        note = "" if len(images) == whole else f" (ILSVRC2012 has {whole:,}: this is another set)"
        print(f"{part}: {len(images):,} images{note} of {present} classes", flush=True)
        if len(images) > BLOCK and images.is_sorted_by_class():
            print(
                f"{part}: the row groups are sorted by class, and images are shuffled in blocks of "
                f"{BLOCK}, so that each shard will hold few classes: prepare another layout of "
                "the set to have them mixed.",
                flush=True,
            )


def _check_sizes(output: Path, parts: Parts, shards: dict[str, int]) -> None:
    missing = 0
    for part, images in parts.items():
        if shards[part] > len(images):
            raise UserError(
                f"--{part}_shards={shards[part]} is more than the {len(images)} images of {part}: "
                f"choose at most {len(images)}."
            )
        names = shard_names(part, shards[part])
        to_do = sum(not (output / name).exists() for name in names)
        missing += images.size() * to_do // len(names)
    free = shutil.disk_usage(output).free
    if missing > free:
        raise UserError(
            f"{output} has {free / 1e9:.1f} GB free, but the shards need {missing / 1e9:.1f} GB: "
            "free space or choose another --output."
        )


def _write_part(output: Path, part: str, images: Images, shards: int, seed: int) -> None:
    progress, classes = _Progress(part, "shards"), synsets()
    hands = zip(shard_names(part, shards), deal(images, shards, seed, part), strict=True)
    to_do = [(output / name, rows) for name, rows in hands if not (output / name).exists()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = [pool.submit(write_shard, path, images, rows, classes) for path, rows in to_do]
        try:
            for number, task in enumerate(as_completed(tasks), 1 + shards - len(to_do)):
                task.result()
                progress(number, shards)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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
