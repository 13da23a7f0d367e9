"""Images per second and core that the input pipeline prepares.

    python -m benchmarks.input_pipeline [--seconds=10] [--rounds=3]

Writes noise-textured JPEGs of 500 x 375 pixels and about 88 KB, as ImageNet's are on average, into
classic shards in a temporary folder, and reads them through `tfcredit.data` as training does.
Prints a line of a Markdown table for each way of preprocessing; the median of the rounds counts.
"Per core" divides by the processor time that was used, so other programs disturb it little.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfcredit.data import ImageData, imagenet

HEIGHT, WIDTH = 375, 500
TARGET_BYTES = 88_000
PICTURES, RECORDS, SHARDS = 32, 2048, 16
BATCH = 64


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
    batches = data.train(BATCH, 0, 0) if part == "train" else data.evaluation(BATCH)
    images, started = 0, None
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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_pipeline", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
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
