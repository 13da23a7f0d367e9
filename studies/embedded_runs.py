"""What studies share that train by plain `compile` and `fit` on the embedded images."""

import os
import statistics
import time
from collections.abc import Callable, Mapping

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import numpy as np

from tfcredit import analysis, data, models

BATCH = 128


def make(network: str, options: dict, rule, seed: int, learning_rate) -> keras.Model:
    """A network for the embedded images, compiled with one Adam for all variables.

    `learning_rate` is a number or a schedule.
    """
    keras.utils.set_random_seed(seed)
    shape = data.get("embedded").input_shape
    model = models.get(network, classes=10, input_shape=shape, rule=rule, seed=seed, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model


def train(model: keras.Model, seed: int, steps: int) -> dict:
    """Train, and measure on the test images.

    Returns:
        `top1`, `loss`, `mean_angle` ("" without feedback kernels), `finite`, `seconds`.
    """
    started = time.time()
    images = data.get("embedded", augment=False)
    per_epoch = images.steps_per_epoch(BATCH)
    for epoch in range(-(-steps // per_epoch)):
        batches = images.train(BATCH, seed, epoch).take(steps - epoch * per_epoch)
        model.fit(batches, verbose=0, shuffle=False)
    logits = model.predict(images.evaluation(500), verbose=0)
    labels = np.concatenate([labels for _, labels, _ in images.evaluation(500)])
    task = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    angles = [
        analysis.angle(layer.kernel, layer.feedback_kernel)
        for layer in analysis.feedback_layers(model)
    ]
    return {
        "top1": float(np.mean(logits.argmax(1) == labels)),
        "loss": float(np.mean(task)),
        "mean_angle": float(np.mean(angles)) if angles else "",
        "finite": bool(np.isfinite(logits).all()),
        "seconds": round(time.time() - started, 1),
    }


def step_ratios(
    runs: Mapping[str, Callable[[], None]], baseline: str, rounds: int = 9
) -> dict[str, float]:
    """Median over interleaved rounds of each run's time over that of `baseline`.

    Args:
        runs: Name -> a call that takes some steps. Each is called once before, uncounted.
        baseline: The name that the others are compared with.
        rounds: How often each is timed.
    """
    for run in runs.values():
        run()
    ratios = {name: [] for name in runs}
    for _ in range(rounds):
        seconds = {}
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name] = time.perf_counter() - started
        for name in runs:
            ratios[name].append(seconds[name] / seconds[baseline])
    return {name: statistics.median(values) for name, values in ratios.items()}


def fit_steps(model: keras.Model, steps: int = 10) -> Callable[[], None]:
    """A call that takes `steps` steps on one batch."""
    images = data.get("embedded", augment=False)
    batches = images.train(BATCH, 0, 0).take(1).cache().repeat(steps)
    return lambda: model.fit(batches, verbose=0, shuffle=False)
