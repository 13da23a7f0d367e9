"""Runs of studies that train by plain `compile` and `fit` on the embedded images."""

import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks.timing import timed
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
    """Trains, and measures on the test images.

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
        analysis.angle(layer.kernel, layer.feedback_product)
        for layer in analysis.feedback_layers(model)
    ]
    return {
        "top1": float(np.mean(logits.argmax(1) == labels)),
        "loss": float(np.mean(task)),
        "mean_angle": float(np.mean(angles)) if angles else "",
        "finite": bool(np.isfinite(logits).all()),
        "seconds": round(time.time() - started, 1),
    }


def timed_steps(model: keras.Model, steps: int = 10) -> Callable[[], float]:
    """A call that takes `steps` steps on one batch and gives the seconds that it took."""
    images = data.get("embedded", augment=False)
    batches = images.train(BATCH, 0, 0).take(1).cache().repeat(steps)
    return timed(lambda: model.fit(batches, verbose=0, shuffle=False))
