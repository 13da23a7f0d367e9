"""Time and memory that the index of a whole ImageNet takes, of generated lists of its names.

    python -m benchmarks.imagenet_index [--images=1281167]

Makes the folders of the synsets without files in them, whose names it generates; the list of
entries of Kaggle's zip without what it lists, annotations included; and WebDataset's tars of empty
images, a hundredth of them, as a tar's headers take as long as they are. Each start is a process of
its own: the first builds the index and keeps it, the second reads it. Memory is the peak of the
process above what it takes after importing tfcredit. Prints a Markdown table.
"""

import argparse
import io
import itertools
import json
import os
import platform
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from tfcredit.data import imagenet
from tfcredit.data.layouts import folders, zipped
from tfcredit.data.synsets import synsets
from tfcredit.ilsvrc2012 import IMAGES

BATCH = 256
LAYOUTS = "folders", "zip", "webdataset"
TAR_PART = 100
"""Of WebDataset's tars, one in so many images is written."""


def names(images: int) -> Iterator[tuple[str, str]]:
    """Names training images.

    Args:
        images: How many.

    Yields:
        Synset, and file name.
    """
    classes = synsets()
    for number in range(images):
        synset = classes[number % len(classes)]
        yield synset, f"{synset}_{10 + number // len(classes)}.JPEG"


def validation_names() -> list[str]:
    """Names the validation images.

    Returns:
        All names.
    """
    return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, IMAGES["validation"] + 1)]


def make_folders(root: Path) -> None:
    """Makes the folders, without files.

    Args:
        root: Where to.
    """
    for synset in synsets():
        (root / "train" / synset).mkdir(parents=True)
    (root / "val").mkdir()


def make_zip(root: Path, images: int) -> None:
    """Writes the list of entries of Kaggle's zip; the images before it are a hole in the file.

    Args:
        root: Where to.
        images: Number of training images.
    """
    data = "ILSVRC/Data/CLS-LOC"
    listed = itertools.chain(
        (f"{data}/train/{synset}/{name}" for synset, name in names(images)),
        (f"{data}/val/{name}" for name in validation_names()),
        (f"{data}/test/ILSVRC2012_test_{number:08d}.JPEG" for number in range(1, 100_001)),
        (f"ILSVRC/Annotations/CLS-LOC/train/{s}/{name}.xml" for s, name in names(544_546)),
    )
    start, count = 1 << 30, 0
    with (root / zipped.NAME).open("wb") as file:
        file.seek(start)
        for count, name in enumerate(listed, 1):
            header = struct.pack("<4s6xH8x2I3H8xI", b"PK\1\2", 8, 9, 9, len(name), 9, 0, count)
            file.write(header + name.encode() + b"UT\5\0\3abcd")
        end = file.tell()
        counts = count, count, end - start, start
        record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, *counts)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
        file.write(record + locator)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0))


def make_tars(root: Path, images: int) -> None:
    """Writes WebDataset's tars of empty images.

    Args:
        root: Where to.
        images: Number of training images.
    """
    numbers = {synset: number for number, synset in enumerate(synsets())}
    samples = list(names(images))
    for part in ("train", "validation"):
        with tarfile.open(root / f"imagenet1k-{part}-0000.tar", "w") as archive:
            for synset, name in samples if part == "train" else samples[:1]:
                key = name.removesuffix(".JPEG")
                stated = {"filename": f"{synset}/{name}", "label": numbers[synset]}
                contents = {"cls": str(numbers[synset]), "jpg": "", "json": json.dumps(stated)}
                for ending, content in contents.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content.encode()))


def start(layout: str, root: Path, images: int) -> dict:
    """Starts as a run does, up to the first batch, which is not read.

    Args:
        layout: One of `LAYOUTS`.
        root: Its folder.
        images: Number of training images.

    Returns:
        Seconds and megabytes that it took.
    """
    if layout == "folders":
        listed: dict[str, list[bytes]] = {}
        for synset, name in names(images):
            listed.setdefault(synset, []).append(name.encode())
        listed["val"] = [name.encode() for name in validation_names()]
        folders._images = lambda folder: listed[folder.name]
    before, started = peak(), time.perf_counter()
    data = imagenet.build(root)
    data.train(BATCH, seed=0, epoch=0)
    return {"seconds": time.perf_counter() - started, "megabytes": peak() - before}


def peak() -> float:
    """Most memory that this process has taken.

    Returns:
        Megabytes.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(layout: str, root: Path, images: int) -> dict:
    """Starts in a process of its own.

    Args:
        layout: One of `LAYOUTS`.
        root: Its folder.
        images: Number of training images.

    Returns:
        What `start` returns.
    """
    command = [sys.executable, "-m", "benchmarks.imagenet_index", f"--images={images}"]
    command += [f"--start={layout}", f"--root={root}"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.imagenet_index", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=IMAGES["train"], help="training images")
    parser.add_argument("--start", choices=LAYOUTS, help="only start, with this layout in --root")
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    if options.start:
        print(json.dumps(start(options.start, options.root, options.images)))
        return
    print("| layout | training images | first start, s | later starts, s | memory, MB | versions |")
    print("|---|---|---|---|---|---|")
    versions = f"TensorFlow {tf.__version__}, Python {platform.python_version()}, "
    versions += f"{os.cpu_count()} x {platform.machine()}"
    for layout in LAYOUTS:
        images = options.images // (TAR_PART if layout == "webdataset" else 1)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            if layout == "folders":
                make_folders(root)
            else:
                (make_zip if layout == "zip" else make_tars)(root, images)
            time.sleep(2.5)  # the index is kept of files that are a moment old
            first, later = (measured(layout, root, images) for _ in range(2))
        memory = f"{first['megabytes']:.0f}, {later['megabytes']:.0f}"
        times = f"{first['seconds']:.1f} | {later['seconds']:.1f}"
        print(f"| {layout} | {images:,} | {times} | {memory} | {versions} |", flush=True)


if __name__ == "__main__":
    main()
