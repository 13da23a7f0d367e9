"""Writes, hashes and checks the shards of `tfcredit prepare-imagenet`."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tfcredit.errors import UserError
from tfcredit.files import written
from tfcredit.prepare.archives import Index
from tfcredit.seeding import derive

SUMS = "SHA256SUMS"


def shard_names(part: str, shards: int) -> list[str]:
    """Names of a part's shards.

    Args:
        part: "train" or "validation".
        shards: Number of shards.

    Returns:
        Names such as "train-00000-of-01024", in order.
    """
    return [f"{part}-{number:05d}-of-{shards:05d}" for number in range(shards)]


def deal(images: int, shards: int, seed: int, part: str) -> list[np.ndarray]:
    """Deals images out to shards at random, as a function of the seed.

    Args:
        images: Number of images.
        shards: Number of shards.
        seed: Seed of the order.
        part: "train" or "validation".

    Returns:
        Per shard the numbers of its images, in random order; sizes differ by 1 at most.
    """
    # RandomState and not default_rng: NumPy promises that its stream never changes.
    random = np.random.RandomState(derive(seed, "prepare", part))
    return np.array_split(random.permutation(images), shards)


def write_shard(path: Path, index: Index, rows: np.ndarray, classes: Sequence[str]) -> None:
    """Writes one shard: under another name first, so that a shard that exists is whole.

    Args:
        path: The shard.
        index: Places of the images in the archive.
        rows: Numbers of the entries to write, in this order, int `[n]`.
        classes: All synsets, in the order of their numbers.

    Raises:
        UserError: If the archive is shorter than it was, or the shard can't be written.
    """
    import tensorflow as tf  # slowly, which --help does without

    try:
        with (
            index.archive.open("rb") as archive,
            written(path, to_disk=True) as partial,
            tf.io.TFRecordWriter(str(partial)) as writer,
        ):
            for name, offset, size, label in index.entries[rows].tolist():
                archive.seek(offset)
                image = archive.read(size)
                if len(image) != size:
                    raise UserError(
                        f"{index.archive} ends within {name.decode()!r}, which it held a while "
                        "ago: leave the archive alone while it is read."
                    )
                writer.write(_record(image, name, label, classes[label].encode()))
    except (OSError, tf.errors.OpError) as problem:
        raise UserError(
            f"{path} can't be written from {index.archive.name} ({problem}): free space or mend "
            "the disk, then give the same command again; whole shards are kept."
        ) from None


def write_sums(folder: Path, names: Sequence[str], progress: Callable[[int, int], None]) -> None:
    """Hashes all shards and writes `SHA256SUMS`, in the format of `sha256sum`.

    Args:
        folder: Folder of the shards.
        names: The shards' names.
        progress: Called after each with the number of shards done and of all.
    """
    lines = []
    for number, name in enumerate(names, 1):
        lines.append(f"{_sha256(folder / name)}  {name}\n")
        progress(number, len(names))
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
