"""Writes, hashes and checks the shards of `tfcredit prepare-imagenet`."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tfcredit.data.layouts.images import Images
from tfcredit.data.layouts.official import named
from tfcredit.errors import UserError
from tfcredit.files import written
from tfcredit.seeding import derive

SUMS = "SHA256SUMS"
BLOCK = 2048
"""Images that are shuffled together where they can't be read one by one."""
AT_A_TIME = 64
"""Images that are read one by one before they are written."""


def shard_names(part: str, shards: int) -> list[str]:
    """Names of a part's shards.

    Args:
        part: "train" or "validation".
        shards: Number of shards.

    Returns:
        Names such as "train-00000-of-01024", in order.
    """
    return [f"{part}-{number:05d}-of-{shards:05d}" for number in range(shards)]


def deal(images: Images, shards: int, seed: int, part: str) -> list[np.ndarray]:
    """Deals images out to shards at random, as a function of the seed.

    Args:
        images: The images.
        shards: Number of shards.
        seed: Seed of the order.
        part: "train" or "validation".

    Returns:
        Per shard the numbers of its images, in random order; sizes differ by 1 at most.
    """
    # RandomState and not default_rng: NumPy promises that its stream never changes.
    random = np.random.RandomState(derive(seed, "prepare", part))
    return np.array_split(images.order(random, BLOCK), shards)


def write_shard(path: Path, images: Images, rows: np.ndarray, classes: Sequence[str]) -> None:
    """Writes one shard: under another name first, so that a shard that exists is whole.

    Args:
        path: The shard.
        images: The images of the part.
        rows: Numbers of the images to write, in this order, int `[n]`.
        classes: All synsets, in the order of their numbers.

    Raises:
        UserError: If an image can't be read, or the shard can't be written.
    """
    import tensorflow as tf  # slowly, which --help does without

    try:
        with (
            written(path, to_disk=True) as partial,
            tf.io.TFRecordWriter(str(partial)) as writer,
        ):
            step = len(rows) if images.is_grouped else AT_A_TIME
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                for row, image in zip(some.tolist(), images.read(some), strict=True):
                    if not image:
                        raise UserError(
                            f"{images.where(row)} gives no image ({images.reason(row)}): mend or "
                            "remove it, and leave the source alone while it is read."
                        )
                    entry = images.entries[row]
                    label, name = int(entry["label"]), named(bytes(entry["name"])).name
                    writer.write(_record(image, name, label, classes[label].encode()))
    except (OSError, tf.errors.OpError) as problem:
        raise UserError(
            f"{path} can't be written ({problem}): free space or mend the disk, then give the "
            "same command again; whole shards are kept."
        ) from None


def write_sums(folder: Path, names: Sequence[str], progress: Callable[[int, int], None]) -> None:
    """Hashes all shards and writes `SHA256SUMS`, in the format of `sha256sum`.

    Args:
        folder: Folder of the shards.
        names: The shards' names.
        progress: Called after each with the number of shards done and of all.
    """
    lines = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(_sha256, [folder / name for name in names])
        try:
            for number, (name, digest) in enumerate(zip(names, digests, strict=True), 1):
                lines.append(f"{digest}  {name}\n")
                progress(number, len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    with written(folder / SUMS, to_disk=True) as partial:
        partial.write_text("".join(lines))


def verify(folder: Path, progress: Callable[[int, int], None]) -> int:
    """Checks the shards of a folder against its `SHA256SUMS`.

    Args:
        folder: Folder of the shards.
        progress: Called after each with the number of shards done and of all.

    Returns:
        The number of shards, all as they were written.

    Raises:
        UserError: If there is no such list, or a shard is missing or changed.
    """
    path = folder / SUMS
    if not path.is_file():
        raise UserError(
            f"{path} is missing, so the set was never finished: run prepare-imagenet without "
            "--verify first."
        )
    sums = [re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+)", line) for line in _lines(path)]
    if not sums or None in sums:
        raise UserError(f"{path} is no list of SHA-256 sums: delete it and prepare the set again.")
    wrong = []
    for number, (digest, name) in enumerate((match.groups() for match in sums), 1):
        shard = folder / name
        if not shard.is_file() or _sha256(shard) != digest:
            wrong.append(name)
        progress(number, len(sums))
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(sums)} shards in {folder} are missing or changed, the first is "
            f"{wrong[0]}: delete {SUMS} and these shards ({', '.join(wrong[:20])}"
            f"{', ...' if len(wrong) > 20 else ''}) and prepare the set again."
        )
    return len(sums)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _record(image: bytes, name: bytes, label: int, synset: bytes) -> bytes:
    """An image in the classic format, whose labels count from 1."""
    import tensorflow as tf

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[label + 1]))
    features = {
        "image/encoded": feature(image),
        "image/class/label": label,
        "image/class/synset": feature(synset),
        "image/filename": feature(name),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
