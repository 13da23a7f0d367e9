"""Cost of the measures that `MeasureMonitor` takes by default, at its default interval.

    python benchmarks/measures_overhead.py [--models=resnet8,resnet20] [--rule=info_alignment]
        [--batch=64] [--rounds=5]

Trains on the embedded images through the runner's own step. Each round takes as many steps as lie
between two measurements without the monitor, and as many with it, TensorBoard included; which comes
first alternates. Printed are the median over rounds of the ratio of the times, and the time of one
measurement over that of a step. Timed apart are the first measurement of a run, which traces, and
the drawing of the heat maps at its end.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from tfcredit import data, models, optimizers
from tfcredit.callbacks import MeasureMonitor
from tfcredit.training.trainer import Trainer

EVERY = 200  # the default


def seconds(trainer: Trainer, batches, callbacks: keras.callbacks.CallbackList) -> float:
    """Time of as many steps as lie between two measurements."""
    started = time.perf_counter()
    for step in range(EVERY):
        callbacks.on_train_batch_begin(step)
        trainer.run(batches, 1)
        callbacks.on_train_batch_end(step)
    return time.perf_counter() - started


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
        monitor = MeasureMonitor(x, y, folder)
        without = keras.callbacks.CallbackList([], model=network)
        with_it = keras.callbacks.CallbackList([monitor], model=network)
        trainer.run(batches, 1)
        times = []
        for _ in range(6):
            started = time.perf_counter()
            with_it.on_train_begin()  # measures; the first time it traces
            times.append(time.perf_counter() - started)
        ratios, steps = [], []
        for turn in range(rounds):
            order = [with_it, without] if turn % 2 else [without, with_it]
            found = {id(callbacks): seconds(trainer, batches, callbacks) for callbacks in order}
            ratios.append(found[id(with_it)] / found[id(without)])
            steps.append(found[id(without)] / EVERY)
        started = time.perf_counter()
        with_it.on_train_end()
        drawing = time.perf_counter() - started
    step, single = statistics.median(steps), statistics.median(times[1:])
    return (
        f"| `{model}` | `{rule}` | {step * 1000:.0f} ms | {statistics.median(ratios) - 1:+.1%} | "
        f"{min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%} | {single / step:.1f} steps | "
        f"{times[0]:.1f} s | {drawing:.1f} s |"
    )


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet8,resnet20")
    parser.add_argument("--rule", default="info_alignment")
    parser.add_argument("--batch", type=int, default=64, help="images per step, and measured")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    print(
        "| network | rule | step | overhead, median | range | one measurement | first | drawing |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model in flags.models.split(","):
        print(measure(model, flags.rule, flags.batch, flags.rounds), flush=True)
    print(
        f"\n{os.cpu_count()} x {platform.machine()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}; {flags.batch} images, {flags.rounds} rounds of 2 x {EVERY} steps"
    )


if __name__ == "__main__":
    main()
