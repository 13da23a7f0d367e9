"""A single run from Python: the function `tfcredit.train`."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
from tensorflow.python.framework import config  # No public name tells of determinism or ends it.

from tfcredit import models
from tfcredit.errors import UserError
from tfcredit.report.groups import curves, grouped
from tfcredit.report.reading import read_runs
from tfcredit.training.given import Given
from tfcredit.training.run import Run
from tfcredit.training.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What a training left.

    Attributes:
        path: The run directory, as `tfcredit report` and `tfcredit evaluate` take it.
        summary: What `summary.json` holds: `top1`, `top5` and `loss` of the test images, or with
            images held out and no others of these; `mean_angle` and `angles` by layer, in degrees;
            `seconds`, ... `None` if the training was stopped by Ctrl-C or a signal before its end:
            the same call goes on with it.
        records: A record for each epoch and one for the start, as `tfcredit.compare` gives them,
            for `pandas.DataFrame`.
    """

    path: pathlib.Path
    summary: dict | None = dataclasses.field(repr=False)
    records: list[dict] = dataclasses.field(repr=False)

    def network(self) -> keras.Model:
        """Loads the trained network.

        Returns:
            A network of feedback layers from images to logits, not compiled.

        Raises:
            UserError: The training has not ended.
        """
        file = RunDirectory(self.path).model
        if self.summary is None or not file.exists():
            raise UserError(f"the training in {self.path} has not ended: call train again first.")
        return models.load(file, compile=False)


def train(
    data: Any = None,
    model: Any = None,
    rule: Any = None,
    *,
    test: Any = None,
    validation: Any = None,
    classes: int | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **flags: Any,
) -> TrainedRun:
    """Trains a network as `tfcredit train` does, on what Python holds.

    The loop, its checkpoints, TensorBoard and the run directory are those of the command. The same
    call goes on with a run that was stopped or killed, to the same numbers, and trains nothing
    again that has ended.

    Args:
        data: Training images: arrays `(x, y)` with x (n, height, width, channels), uint8 in 0 to
            255 or floating point, and labels y (n,), whole numbers from 0 on; or a
            `tf.data.Dataset` of such pairs, single or in batches, whose images go into the network
            as they are; or a data set's name, as `--dataset` takes it. Default: `--dataset`'s.
        model: A network's name or file, as `--model` takes it; a `keras.Model` with its weights,
            which stays as it is; or a function that returns one, which may take `classes`,
            `input_shape`, `seed` and the other arguments of `--model`'s functions. Default:
            `--model`'s.
        rule: A name, as `--rule` takes it; a `tfcredit.rules.Rule`; or a mapping from patterns for
            layers to such. Default: `--rule`'s.
        test: Test images, of the kind of `data`.
        validation: Images to judge each epoch by, of the kind of `data`. Default: none; of arrays
            `validation_examples=N` holds some out.
        classes: Number of classes of `data`. Default: one more than the largest label.
        run_dir: Folder of the run. Default: a new one in `runs/`.
        resume: "auto" goes on with the run in `run_dir`; "never" and "must" as `--resume` has them.
        callbacks: Keras' callbacks, beside those of the run.
        **flags: Further flags of `tfcredit train`: `epochs=3, learning_rate=0.02`; `import_` is
            that of `--import`. Arrays are normalised by mean and standard deviation of the training
            images unless `preprocessing="raw"` is given, and `augment=True` flips and shifts them.

    Returns:
        The run's folder, summary and records. The folder holds a fingerprint of arrays, and refuses
        others.

    Raises:
        UserError: An unknown flag, images, a network or a rule that can't be used, or a folder
            that holds another run.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> x, y = np.zeros((8, 4, 4, 1), "uint8"), np.arange(8) % 2
        >>> folder = tempfile.mkdtemp()
        >>> run = train(  # doctest: +ELLIPSIS
        ...     (x, y), "fc", "tracking_mirror", test=(x, y), run_dir=folder, steps=1, batch_size=8
        ... )
        Data: data set: arrays in memory, 8 training and 8 test images of 2 classes.
        ...
        Epoch 1/1  loss ...
        >>> run.summary["step"]
        1
    """
    if flags.get("mode", "train_and_evaluate") not in ("train", "train_and_evaluate"):
        raise UserError(
            f"mode={flags['mode']!r} is for the command tfcredit train: leave it out, or use the "
            "command."
        )
    if flags.get("overwrite"):
        resume = "never"
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else [*callbacks]
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise UserError(
                f"callbacks holds {callback!r}, but Keras' callbacks were expected: give objects "
                "of subclasses of keras.callbacks.Callback."
            )
    flags = {**flags, "run_dir": run_dir, "resume": resume}
    parts = {"train": data, "test": test, "val": validation}
    policy, determinism = keras.mixed_precision.dtype_policy(), config.is_op_determinism_enabled()
    try:
        given = Given.of(parts, classes, model, rule, flags)
        run = Run(given.recipe, callbacks, images=given.images, network=given.network)
        summary = run.train()
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
        if not determinism:  # else XLA stays off, and operations may be missing on GPUs
            config.disable_op_determinism()
    path, begun = run.directory.path, run.directory.holds_run()
    return TrainedRun(path, summary, curves(grouped(read_runs([path])[0])) if begun else [])
