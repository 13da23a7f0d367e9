"""The process of a checkout for `revisions.py`: steps of the runner's own, one rule per request.

    python -P benchmarks/revision_worker.py JOB

Imports nothing of `benchmarks`, and of tfcredit only what earlier revisions have too: `models.get`,
`optimizers.get`, `PartitionedOptimizer` and the runner's `Trainer`. The first line out says where
tfcredit lies; then each line in is RULE<tab>STEPS, and the line out the wall-clock and the CPU
seconds of a step.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import tensorflow as tf

import tfcredit
from tfcredit import models, optimizers
from tfcredit.training.trainer import Trainer


def trainer(network: str, rule: str, forward: list, feedback: list | None) -> Trainer:
    """A training of a network.

    Args:
        network: MODEL@SIZE.
        rule: As `models.get` takes it.
        forward: Name and learning rate of the optimizer of W.
        feedback: Those of B's own; `None` for none.

    Returns:
        The runner's trainer.
    """
    name, size = network.split("@")
    classes, channels = (1000, 3) if int(size) > 64 else (10, 1)
    model = models.get(name, classes, (int(size), int(size), channels), rule=rule, seed=0)
    optimizer = optimizers.get(*forward)
    if feedback is not None:
        optimizer = optimizers.PartitionedOptimizer(optimizer, optimizers.get(*feedback))
    model.compile(optimizer)
    return Trainer(model)


def main() -> None:
    """Builds the trainings, then times steps for each line."""
    job = json.loads(sys.argv[1])
    print(tfcredit.__file__, flush=True)
    trainings = {
        rule: trainer(job["network"], rule, **chosen) for rule, chosen in job["trainings"].items()
    }
    random = tf.random.Generator.from_seed(0)
    shape = next(iter(trainings.values())).network.input_shape[1:]
    images = random.normal((job["batch"], *shape))
    labels = random.uniform((job["batch"],), maxval=10, dtype=tf.int64)
    kept = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    for line in sys.stdin:
        rule, steps = line.rstrip("\n").split("\t")
        trainings[rule].run(kept, 1)  # finds caches and heap as another network left them
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(steps)):
            trainings[rule].run(kept, 1)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(wall / int(steps), cpu / int(steps), flush=True)


if __name__ == "__main__":
    main()
