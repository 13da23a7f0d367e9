"""Images per second and core that the input pipeline prepares.

    python -m benchmarks.input_pipeline [--seconds=10] [--rounds=3]
    python -m benchmarks.input_pipeline --parts
    python -m benchmarks.input_pipeline --layouts [--torch_python=TORCH/bin/python]

Writes noise-textured JPEGs of 500 x 375 pixels and about 88 KB, as ImageNet's are on average, into
classic shards in a temporary folder, and reads them through `tfcredit.data` as training does.
Prints a line of a Markdown table for each way of preprocessing; the median of the rounds counts.
"Per core" divides by the processor time that was used, so other programs disturb it little.

`--parts` tells where the time of an image goes: in turn it decodes random parts of the JPEGs alone
(`tf.io.decode_and_crop_jpeg`), resizes them too, mirrors, normalises, and reads shards. "Of
decoding" is the median of the rounds' ratios per core: what a line has, no later step can exceed.

`--layouts` reads the same JPEGs in turn from each layout of ImageNet, and compares with decoding,
and with decoding and resizing. `--torch_python` names an interpreter that has torchvision, whose
`ImageFolder`, `RandomResizedCrop` and `DataLoader` then take their turns.
"""

import argparse
import functools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfcredit.data import ImageData, imagenet, preprocessing
from tfcredit.data.layouts.official import validation_classes
from tfcredit.data.synsets import synsets
from tools.imagenet_layouts import LAYOUTS, Picture

HEIGHT, WIDTH = 375, 500
TARGET_BYTES = 88_000
PICTURES, RECORDS, SHARDS = 32, 2048, 16
BATCH = 64
SIZE = 224
WINDOWS = 512
"""Parts of the pictures that are decoded in turn."""
Measure = Callable[[], tuple[float, float]]
"""Gives images per second, and images per second of processor time."""
READ = "shards", "folders", "zip", "parquet", "webdataset"
"""The layouts that are read."""


@functools.cache
def encode(seed: int) -> bytes:
    """A picture of smooth shades and noise, as a JPEG.

    Args:
        seed: Seed of the picture.

    Returns:
        The file of the size nearest to `TARGET_BYTES` that changing the noise by 1 in 255 gives.
    """
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (1, 6, 8, 3)).astype(np.float32)
    shades = tf.image.resize(coarse, [HEIGHT, WIDTH], method="bicubic")[0].numpy()
    noise = random.normal(size=shades.shape)
    files = []
    for strength in range(1, 40):
        pixels = np.clip(shades + strength * noise, 0, 255).astype(np.uint8)
        files.append(tf.io.encode_jpeg(pixels, quality=90).numpy())
        if len(files[-1]) > TARGET_BYTES:
            break
    return min(files, key=lambda file: abs(len(file) - TARGET_BYTES))


def write_shards(folder: Path) -> float:
    """Writes a training and a test part.

    Args:
        folder: Where to.

    Returns:
        Mean size of the JPEGs in bytes.
    """
    files = [encode(seed) for seed in range(PICTURES)]
    for part, shards, records in (("train", SHARDS, RECORDS), ("validation", 1, RECORDS // 4)):
        for shard in range(shards):
            path = folder / f"{part}-{shard:05d}-of-{shards:05d}"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for number in range(records // shards):
                    image = tf.train.BytesList(value=[files[number % PICTURES]])
                    label = tf.train.Int64List(value=[1 + number % 1000])
                    features = {
                        "image/encoded": tf.train.Feature(bytes_list=image),
                        "image/class/label": tf.train.Feature(int64_list=label),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())
    return statistics.mean(map(len, files))


def measure(data: ImageData, seconds: float, part: str) -> tuple[float, float]:
    """Reads for a while.

    Args:
        data: The set.
        seconds: How long, in seconds.
        part: "train" or "evaluation".

    Returns:
        Images per second, and images per second of processor time.
    """
    return timed(data.train(BATCH, 0, 0) if part == "train" else data.evaluation(BATCH), seconds)


def timed(batches: tf.data.Dataset, seconds: float) -> tuple[float, float]:
    """Reads for a while, epoch after epoch.

    Args:
        batches: Of `BATCH` images each.
        seconds: How long, in seconds.

    Returns:
        Images per second, and images per second of processor time.
    """
    images, started = 0, None
    # A new iterator for each epoch would build the pipeline anew: a tenth of so short an epoch.
    for _ in batches.repeat():
        now = time.perf_counter(), time.process_time()
        if started is None:  # building the pipeline and filling the buffers is not counted
            started = now
            continue
        images += BATCH
        if now[0] - started[0] > seconds:
            break
    return images / (now[0] - started[0]), images / (now[1] - started[1])


def speeds(seconds: float, rounds: int) -> Iterator[dict]:
    """Reads in each way of preprocessing, in training and in evaluation.

    Args:
        seconds: Length of a round.
        rounds: How many; the median counts.

    Yields:
        A row for each.
    """
    with tempfile.TemporaryDirectory() as folder:
        size = write_shards(Path(folder))
        for way in ("resnet", "inception"):
            data = imagenet.build(folder, preprocessing=way, shuffle_buffer=256)
            for part in ("train", "evaluation"):
                found = zip(*(measure(data, seconds, part) for _ in range(rounds)), strict=True)
                speed, per_core = map(statistics.median, found)
                row = {"preprocessing": f"{way} {data.input_shape[0]}", "part": part}
                row |= {"images_per_second": speed, "per_core": per_core, "bytes": size}
                yield row


def write_layouts(root: Path) -> None:
    """Writes the pictures in each layout, and as shards.

    Args:
        root: Where to; a folder for each.
    """
    files, classes = [encode(seed) for seed in range(PICTURES)], synsets()
    train = [
        Picture(f"{classes[number % 1000]}_{number}.JPEG", number % 1000, files[number % PICTURES])
        for number in range(RECORDS)
    ]
    validation = [
        Picture(f"ILSVRC2012_val_{number:08d}.JPEG", label, files[number % PICTURES])
        for number, label in enumerate(validation_classes()[:BATCH], 1)
    ]
    for layout in READ:
        if layout == "shards":
            continue
        (root / layout).mkdir()
        LAYOUTS[layout](root / layout, train, validation)
    (root / "shards").mkdir()
    write_shards(root / "shards")


def preparing(
    files: list[bytes], prepare: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.data.Dataset:
    """Prepares pictures in memory, a call for each.

    Args:
        files: The pictures.
        prepare: Takes a file and a number, int64, and returns an image.

    Returns:
        A dataset without end, of `BATCH` scalars each.
    """
    pictures = tf.constant(files)

    def colour(number: tf.Tensor) -> tf.Tensor:
        image = prepare(pictures[number % len(files)], number)
        return tf.cast(image[0, 0, 0], tf.float32)  # a shape would need no pixels

    numbers = tf.data.Dataset.range(2**62)
    return numbers.map(colour, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def steps() -> dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """The steps from a file to an image: each does what those before it do, too.

    Returns:
        Functions for `preparing`, by what they do.
    """
    windows = tf.stack(
        [
            preprocessing.random_window(tf.constant([HEIGHT, WIDTH]), [0, number])
            for number in range(WINDOWS)
        ]
    )

    def decode(encoded: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_and_crop_jpeg(
            encoded, windows[number % WINDOWS], channels=3, dct_method="INTEGER_ACCURATE"
        )

    def of_training(train: Callable) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        return lambda encoded, number: train(encoded, tf.stack([0, number]), SIZE)

    return {
        "decoding alone": decode,
        "decoding, resizing": lambda *each: tf.image.resize(
            tf.cast(decode(*each), tf.float32), [SIZE, SIZE]
        ),
        "with windows and mirroring": of_training(preprocessing.raw_train_image),
        "with normalising": of_training(preprocessing.train_image),
    }


class Torchvision:
    """A process that reads the same JPEGs by torchvision.

    Args:
        python: An interpreter that has torchvision.
        folder: A folder of folders by class.

    Attributes:
        versions: What runs.
    """

    def __init__(self, python: str, folder: Path):
        script = Path(__file__).with_name("torchvision_input.py")
        self._process = subprocess.Popen(
            [python, str(script), str(folder), str(BATCH), str(SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = self._process.stdout.readline().strip()
        if not self.versions:
            sys.exit(f"{python} can't read by torchvision; its error stands above.")

    def speeds(self, workers: int, seconds: float) -> tuple[float, float]:
        """Reads for a while.

        Args:
            workers: Of the `DataLoader`.
            seconds: How long, in seconds.

        Returns:
            As `timed`.
        """
        print(workers, seconds, file=self._process.stdin, flush=True)
        speed, per_core = map(float, self._process.stdout.readline().split())
        return speed, per_core

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def of_steps(seconds: float, names: Iterable[str]) -> dict[str, Measure]:
    """Measurements of some of `steps`.

    Args:
        seconds: Length of each measurement.
        names: Which of them.

    Returns:
        What measures each.
    """
    files, known = [encode(seed) for seed in range(PICTURES)], steps()
    return {
        name: functools.partial(timed, preparing(files, known[name]), seconds) for name in names
    }


def of_training(folder: Path, seconds: float) -> Measure:
    """A measurement of the training images of a set.

    Args:
        folder: The set.
        seconds: Length of the measurement.

    Returns:
        What measures.
    """
    return functools.partial(measure, imagenet.build(folder, shuffle_buffer=256), seconds, "train")


def in_turn(ways: dict[str, Measure], rounds: int) -> Iterator[dict]:
    """Measures ways in turn.

    Args:
        ways: What measures each way; "decoding alone" is among them.
        rounds: How many times each is measured.

    Yields:
        A row for each: its name, images per second, per core, and of decoding alone.
    """
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measured in ways.items():
            found[way].append(measured())
    alone = [per_core for _, per_core in found["decoding alone"]]
    for way, each in found.items():
        ratios = [per_core / base for (_, per_core), base in zip(each, alone, strict=True)]
        speed, per_core = map(statistics.median, zip(*each, strict=True))
        row = {"source": way, "images_per_second": speed, "per_core": per_core}
        yield row | {"of_decoding": statistics.median(ratios)}


def parts(seconds: float, rounds: int) -> Iterator[dict]:
    """Measures each of `steps`, and training images of shards.

    Args:
        seconds: Length of each measurement.
        rounds: How many times each is measured.

    Yields:
        As `in_turn`.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder))
        whole = {"from shards, in batches": of_training(Path(folder), seconds)}
        yield from in_turn(of_steps(seconds, steps()) | whole, rounds)


def layouts(seconds: float, rounds: int, torch_python: str | None) -> Iterator[dict]:
    """Reads from each layout in turn, decodes alone, and lets torchvision read.

    Args:
        seconds: Length of each measurement.
        rounds: How many times each is measured.
        torch_python: An interpreter that has torchvision; None to leave it out.

    Yields:
        As `in_turn`.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_layouts(Path(folder))
        ways = of_steps(seconds, ["decoding alone", "decoding, resizing"])
        ways |= {layout: of_training(Path(folder, layout), seconds) for layout in READ}
        if torch_python is None:
            yield from in_turn(ways, rounds)
            return
        other = Torchvision(torch_python, Path(folder, "folders", "train"))
        for workers in sorted({0, os.cpu_count()}):
            name = f"{other.versions}, num_workers={workers}"
            ways[name] = functools.partial(other.speeds, workers, seconds)
        yield from in_turn(ways, rounds)
        other.close()


def print_compared(rows: Iterable[dict]) -> None:
    """Prints what was measured in turn as a table.

    Args:
        rows: Of `in_turn`.
    """
    print("| source | images/s | images/s per core | processor time an image, ms | of decoding |")
    print("|---|---|---|---|---|")
    for row in rows:
        shown = f"{row['images_per_second']:.0f} | {row['per_core']:.0f}"
        shown += f" | {1000 / row['per_core']:.2f} | {row['of_decoding']:.2f}"
        print(f"| {row['source']} | {shown} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_pipeline", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--parts", action="store_true", help="tell where the time goes")
    kinds.add_argument("--layouts", action="store_true", help="compare the layouts of ImageNet")
    parser.add_argument("--torch_python", help="Python that has torchvision, for --layouts")
    arguments = parser.parse_args()
    if arguments.torch_python and not arguments.layouts:
        parser.error("--torch_python goes with --layouts")
    if arguments.layouts:
        print_compared(layouts(arguments.seconds, arguments.rounds, arguments.torch_python))
        return
    if arguments.parts:
        print_compared(parts(arguments.seconds, arguments.rounds))
        return
    print("| preprocessing | part | images/s | images/s per core | machine | versions |")
    print("|---|---|---|---|---|---|")
    versions = f"TensorFlow {tf.__version__}, Python {platform.python_version()}"
    for row in speeds(arguments.seconds, arguments.rounds):
        shown = f"{row['images_per_second']:.0f} | {row['per_core']:.0f}"
        machine = f"{os.cpu_count()} x {platform.machine()}, {row['bytes'] / 1000:.0f} KB JPEGs"
        way = f"{row['preprocessing']} | {row['part']}"
        print(f"| {way} | {shown} | {machine} | {versions} |", flush=True)


if __name__ == "__main__":
    main()
