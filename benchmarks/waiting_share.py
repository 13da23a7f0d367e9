"""Share of a training step that is spent waiting for the next batch of images.

    python -m benchmarks.waiting_share [--model=resnet18] [--batch=32] [--steps=8] [--rounds=3]

Trains on the JPEGs of `input_pipeline.py` (500 x 375 pixels) through the runner's own step, and, in
turn, on one batch that is kept in memory. "Waiting" is the time from asking for a batch until it
is there; "slower" also counts what decoding takes from the processor that the step runs on too.
"""

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.input_pipeline import write_shards
from benchmarks.timing import interleave, timed
from tfcredit import models, optimizers
from tfcredit.data import ImageData, imagenet
from tfcredit.training.trainer import Trainer


def run(trainer: Trainer, batches: Iterator, kept: Iterator, steps: int) -> tuple[float, float]:
    """Trains for a few steps, on a batch in memory, and asks for another one before each.

    The step takes TensorFlow's iterator and would be traced anew for one of Python's, so it can't
    be given the batch that was waited for.

    Args:
        trainer: The runner's.
        batches: Of (images, labels), to wait for.
        kept: Gives the same batch again and again.
        steps: How many.

    Returns:
        Seconds in all, and those of them in which a batch was waited for.
    """
    waits = []

    def train() -> None:
        for _ in range(steps):
            waits.append(timed(next, batches)())
            trainer.run(kept, 1)

    return timed(train)(), sum(waits)


def measure(rule: str, model: str, data: ImageData, batch: int, steps: int, rounds: int) -> str:
    """Trains under a rule, from the files and from memory in turn.

    Args:
        rule: The rule.
        model: The network.
        data: The images.
        batch: Images per step.
        steps: Steps per turn.
        rounds: Turns of each.

    Returns:
        A line of the table.
    """
    network = models.get(model, data.classes, data.input_shape, rule=rule, seed=0)
    forward = keras.optimizers.SGD(1e-4, momentum=0.9)
    learns = rule != "backprop"
    network.compile(optimizers.PartitionedOptimizer(forward, "adam") if learns else forward)
    trainer = Trainer(network)
    real = iter(data.train(batch, 0, 0).repeat())
    kept = iter(tf.data.Dataset.from_tensors(next(real)).repeat())
    turns = interleave(
        {
            "real": lambda: run(trainer, real, kept, steps),
            "kept": lambda: run(trainer, kept, kept, steps),
        },
        rounds,
    )
    seconds = statistics.median(total for total, _ in turns["real"]) / steps
    waiting = statistics.median(waited / total for total, waited in turns["real"])
    pairs = zip(turns["real"], turns["kept"], strict=True)
    slower = statistics.median(total / memory for (total, _), (memory, _) in pairs) - 1
    machine = f"{os.cpu_count()} x {platform.machine()}"
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return f"| `{rule}` | {seconds:.2f} | {waiting:.2%} | {slower:.1%} | {machine} | {versions} |"


def main() -> None:
    """Prints a line of a Markdown table for each rule."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.waiting_share", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--steps", type=int, default=8, help="per turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder))
        data = imagenet.build(folder, shuffle_buffer=256)
        print("| rule | s per step | waiting | slower than from memory | machine | versions |")
        print("|---|---|---|---|---|---|")
        for rule in ("backprop", "info_alignment"):
            line = measure(rule, flags.model, data, flags.batch, flags.steps, flags.rounds)
            print(line, flush=True)


if __name__ == "__main__":
    main()
