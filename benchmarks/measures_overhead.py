"""Cost of the measures that `MeasureMonitor` takes by default, at its default interval.

    python -m benchmarks.measures_overhead [--models=resnet8,resnet20] [--rule=info_alignment]
        [--batch=64] [--rounds=15]

Trains on the embedded images through the runner's own step. Each round takes 20 steps without the
monitor and 20 with it, TensorBoard included, in an order of its own. The monitor measures once in
20 steps, ten times as often as by default, so that its cost stands out from the noise: the overhead
printed is a tenth of the median of the ratios, less 1. Timed apart are the first measurement of a
run, which traces, and the drawing of the heat maps at its end.
"""

import argparse
import os
import platform
import statistics
import tempfile

import keras
import tensorflow as tf

from benchmarks.timing import interleave, quartiles, timed
from tfcredit import data, models, optimizers
from tfcredit.callbacks import MeasureMonitor
from tfcredit.training.trainer import Trainer

STEPS = 20
SHARE = STEPS / 200  # of the default interval


def train(trainer: Trainer, batches, callbacks: keras.callbacks.CallbackList) -> None:
    """Takes `STEPS` steps."""
    for step in range(STEPS):
        callbacks.on_train_batch_begin(step)
        trainer.run(batches, 1)
        callbacks.on_train_batch_end(step)


def measure(model: str, rule: str, batch: int, rounds: int) -> str:
    """A line of the table."""
    images = data.get("embedded")
    network = models.get(model, images.classes, images.input_shape, rule=rule, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizers.PartitionedOptimizer(keras.optimizers.SGD(1e-3), "adam"), loss)
    trainer = Trainer(network)
    batches = iter(images.train(batch, 0, 0).repeat())
    x, y = next(iter(images.train(batch, 0, 0)))[:2]
    with tempfile.TemporaryDirectory() as folder:
        monitor = MeasureMonitor(x, y, folder, every=STEPS)
        without = keras.callbacks.CallbackList([], model=network)
        with_it = keras.callbacks.CallbackList([monitor], model=network)
        trainer.run(batches, 1)

        def measure_once() -> None:
            monitor.records.clear()  # or it would go on with them
            with_it.on_train_begin()  # measures; the first time it traces

        first, *later = (timed(measure_once)() for _ in range(6))
        runs = {
            "without": timed(train, trainer, batches, without),
            "with": timed(train, trainer, batches, with_it),
        }
        seconds = interleave(runs, rounds)
        drawing = timed(with_it.on_train_end)()
    step, single = statistics.median(seconds["without"]) / STEPS, statistics.median(later)
    ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    low, overhead, high = (SHARE * (ratio - 1) for ratio in quartiles(ratios))
    return (
        f"| `{model}` | `{rule}` | {step * 1000:.0f} ms | {overhead:.1%} | {low:.1%} to {high:.1%} "
        f"| {single / step:.1f} steps | {first:.1f} s | {drawing:.1f} s |"
    )


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measures_overhead", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--models", default="resnet8,resnet20")
    parser.add_argument("--rule", default="info_alignment")
    parser.add_argument("--batch", type=int, default=64, help="images per step, and measured")
    parser.add_argument("--rounds", type=int, default=15)
    flags = parser.parse_args()
    columns = (
        "network",
        "rule",
        "step",
        "overhead",
        "quartiles",
        "a measurement",
        "first",
        "drawing",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for model in flags.models.split(","):
        print(measure(model, flags.rule, flags.batch, flags.rounds), flush=True)
    print(
        f"\n{os.cpu_count()} x {platform.machine()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}; {flags.batch} images a step; {flags.rounds} rounds"
    )


if __name__ == "__main__":
    main()
