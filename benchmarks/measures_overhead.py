"""Cost of the measures that `MeasureMonitor` takes by default, at its default interval.

    python benchmarks/measures_overhead.py [--models=resnet8,resnet20] [--rule=info_alignment]
        [--batch=64] [--rounds=15]

Trains on the embedded images through the runner's own step. Each round takes 20 steps without the
monitor and 20 with it, TensorBoard included; which comes first alternates. The monitor measures
once in 20 steps, ten times as often as by default, so that its cost stands out from the noise: the
overhead printed is a tenth of the median of the ratios, less 1. Timed apart are the first
measurement of a run, which traces, and the drawing of the heat maps at its end.
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

STEPS = 20
SHARE = STEPS / 200  # of the default interval


def seconds(trainer: Trainer, batches, callbacks: keras.callbacks.CallbackList) -> float:
    """Time of `STEPS` steps."""
    started = time.perf_counter()
    for step in range(STEPS):
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
        monitor = MeasureMonitor(x, y, folder, every=STEPS)
        without = keras.callbacks.CallbackList([], model=network)
        with_it = keras.callbacks.CallbackList([monitor], model=network)
        trainer.run(batches, 1)
        times = []
        for _ in range(6):
            started = time.perf_counter()
            monitor.records.clear()  # or it would go on with them
            with_it.on_train_begin()  # measures; the first time it traces
            times.append(time.perf_counter() - started)
        ratios, steps = [], []
        for turn in range(rounds):
            order = [with_it, without] if turn % 2 else [without, with_it]
            found = {id(callbacks): seconds(trainer, batches, callbacks) for callbacks in order}
            ratios.append(found[id(with_it)] / found[id(without)])
            steps.append(found[id(without)] / STEPS)
        started = time.perf_counter()
        with_it.on_train_end()
        drawing = time.perf_counter() - started
    step, single = statistics.median(steps), statistics.median(times[1:])
    low, overhead, high = (SHARE * (q - 1) for q in statistics.quantiles(ratios, n=4))
    return (
        f"| `{model}` | `{rule}` | {step * 1000:.0f} ms | {overhead:.1%} | {low:.1%} to {high:.1%} "
        f"| {single / step:.1f} steps | {times[0]:.1f} s | {drawing:.1f} s |"
    )


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
