"""The callback that leaves what a run leaves."""

import json
import math
import os
import re
import time

import keras

from tfcredit.analysis import alignment, feedback_layers
from tfcredit.callbacks.alignment import AlignmentMonitor
from tfcredit.callbacks.steps import mean, steps_taken
from tfcredit.callbacks.table import EpochTable
from tfcredit.directories import RunFiles
from tfcredit.environment import environment
from tfcredit.errors import UserError
from tfcredit.records import read_counted
from tfcredit.rules.registry import spelled

COLUMNS = ("epoch", "step", "loss", "top1", "top5", "images_per_second")
_METRIC = re.compile(r"(?:(?:sparse_)?categorical_|binary_)?(?:accuracy|acc)")
_METRIC_OF_5 = re.compile(r"(?:sparse_)?top_(?:k|5)_categorical_accuracy")


class RunDirectory(keras.callbacks.Callback):
    """Leaves the flags, metrics, angles and summary of a `fit` as `tfcredit train` leaves a run's.

    So `tfcredit report` shows it beside other runs, and takes those together that differ in their
    seed only. Written are `flags.txt`, `metrics.csv` (a row per epoch), `tensorboard/` (the same,
    and the angle of W and B of every layer) and, when `fit` ends, `summary.json`; or `diverged.txt`
    if the loss was not finite at the end. A `fit` that goes on with a trained model lengthens what
    is there, whether it is given `initial_epoch` or counts epochs from 1 again. Give
    `validation_data` to `fit`, as results are those of test images: of the last epoch that `fit`
    has validated.

    Args:
        path: The folder; it is made if need be.
        rule: What the report calls the rule. Default: the rules of the model's feedback layers,
            `"backprop"` without any.
        dataset: What the report calls the data.
        seed: The seed of this `fit`, by which runs are told apart and paired.
        batch_size: Images of a step, for the column `images_per_second`. Default: no such column.

    Raises:
        UserError: The folder holds another run or other files, or can't be written.

    Example:
        >>> callback = RunDirectory("runs/mine/seed0", dataset="flowers", seed=0)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rule: str | None = None,
        dataset: str = "own",
        seed: int = 0,
        batch_size: int | None = None,
    ):
        super().__init__()
        self.files = RunFiles(path)
        self._rule, self._dataset, self._seed = rule, dataset, seed
        self._batch_size = batch_size
        self._watchers: list[keras.callbacks.Callback] = []
        self._last: dict[str, float] = {}
        self._begun = False
        self._epochs_before, self._seconds_before = 0, 0.0

    def on_train_begin(self, logs=None):
        """Refuse a folder of other files before anything trains."""
        self._begun, self._last = False, {}
        self._started = time.monotonic()
        self.files.check_kinds()
        if not self.files.holds_run():
            self.files.check_foreign(set())

    def on_epoch_begin(self, epoch, logs=None):
        """Write the flags and measure the start, before the first epoch of this `fit`.

        By then callbacks behind this one have restored what they keep of an earlier training.
        """
        if not self._begun:
            self._begin(epoch)
        self._trained: float | None = None
        self._turned, self._turned_at = time.monotonic(), steps_taken(self.model)

    def on_test_begin(self, logs=None):
        """Take the time, as validation is no part of a step's."""
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Write the row and the angles."""
        step = steps_taken(self.model)
        now = time.monotonic() if self._trained is None else self._trained
        self._last = {"step": step} | {_column(name): v for name, v in (logs or {}).items()}
        if self._batch_size is not None and step > self._turned_at:
            images = self._batch_size * (step - self._turned_at)
            self._last["images_per_second"] = images / (now - self._turned)
        with self.files.writing():
            for watcher in self._watchers:
                watcher.on_epoch_end(epoch + self._epochs_before, self._last)

    def on_train_end(self, logs=None):
        """Write the summary."""
        last = self._last
        if not last:
            return
        if not math.isfinite(last.get("loss", 0.0)):
            told = f"the loss was not finite at step {last['step']}\n"
            self.files.write(self.files.diverged, told)
            return
        records = alignment(self.model) if feedback_layers(self.model) else []
        angles = {record["layer"]: record["angle"] for record in records}
        self.files.write_json(
            self.files.summary,
            {
                **self._results(),
                "step": last["step"],
                "mean_angle": mean(angles.values()) if angles else None,
                "angles": angles,
                "rule": self._name_of_rule(),
                "model": self._name_of_model(),
                "parameters": self.model.count_params(),
                "dataset": self._dataset,
                "seed": self._seed,
                "seconds": round(self._seconds_before + time.monotonic() - self._started, 1),
                "flags": self._flags,
                **environment(),
            },
        )

    def _begin(self, epoch: int) -> None:
        """Start the files, or go on with those of an earlier `fit` of this model."""
        files, step = self.files, steps_taken(self.model)
        goes_on = files.holds_run()
        if goes_on and not step:
            raise UserError(
                f"{files.path} holds a run already: give RunDirectory another path, or delete it."
            )
        rows = read_counted(files.metrics)
        before = max((row["epoch"] for row in rows if row["step"] <= step), default=0)
        self._epochs_before = max(0, before - epoch)  # a second fit counts from 1 again
        self._seconds_before = self._seconds_of_summary()
        self._flags = self._stated()
        if goes_on:
            named = dict(each.split("=", 1) for each in self._flags)
            stored = self._stored()
            epochs = f"--epochs={named['--epochs']}"
            self._flags = [epochs if each.startswith("--epochs=") else each for each in stored]
        with files.writing():
            files.tensorboard.mkdir(parents=True, exist_ok=True)
            for old in (files.summary, files.diverged):
                old.unlink(missing_ok=True)
        files.write(files.flags, "\n".join(self._flags) + "\n")
        folder = str(files.tensorboard)
        self._watchers = [
            AlignmentMonitor(folder, start=not goes_on),
            EpochTable(str(files.metrics), folder, COLUMNS),
        ]
        for watcher in self._watchers:
            watcher.set_model(self.model)
            watcher.on_train_begin()
        self._begun = True

    def _stored(self) -> list[str]:
        """The flags of an earlier `fit`."""
        try:
            return self.files.flags.read_text().splitlines()
        except (OSError, ValueError) as problem:
            raise UserError(
                f"{self.files.flags} can't be read as the flags of a run ({problem}): put a copy "
                "of it back, or give RunDirectory another path."
            ) from None

    def _seconds_of_summary(self) -> float:
        """The seconds of earlier fits; 0 without any that came to its end."""
        try:
            seconds = json.loads(self.files.summary.read_text())["seconds"]
            return float(seconds)
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return 0.0

    def _results(self) -> dict[str, float | None]:
        """Those of the last epoch that `fit` has validated, and its step."""
        names = ("loss", "top1", "top5")
        for row in reversed(read_counted(self.files.metrics)):
            found = {name: row.get(f"test_{name}") for name in names}
            if any(value is not None for value in found.values()):
                return {**found, "evaluated_step": row["step"]}
        return dict.fromkeys([*names, "evaluated_step"])

    def _stated(self) -> list[str]:
        """What is known of this training, as flags of `tfcredit train`."""
        flags = {
            "rule": self._name_of_rule(),
            "model": self._name_of_model(),
            "dataset": self._dataset,
            "batch_size": self._batch_size,
            "optimizer": type(self.model.optimizer).__name__.lower(),
            "epochs": self.params["epochs"] + self._epochs_before,
            "seed": self._seed,
        }
        told = {name: " ".join(str(v).split()) for name, v in flags.items() if v is not None}
        return [f"--{name}={value}" for name, value in told.items()]

    def _name_of_rule(self) -> str:
        if self._rule is not None:
            return self._rule
        layers = feedback_layers(self.model)
        return ", ".join(dict.fromkeys(spelled(layer.rule) for layer in layers)) or "backprop"

    def _name_of_model(self) -> str:
        """Without the number that Keras gives to the second model of a kind."""
        return re.sub(r"_\d+$", "", self.model.name)


def _column(name: str) -> str:
    """The column of `metrics.csv` that a log of `fit` belongs to."""
    if name.startswith("val_"):
        return f"test_{_column(name[4:])}"
    if _METRIC.fullmatch(name):
        return "top1"
    return "top5" if _METRIC_OF_5.fullmatch(name) else name
