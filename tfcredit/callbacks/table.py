"""The callback that keeps the table of epochs."""

import csv
import os
import pathlib
from collections.abc import Iterable

import keras
import tensorflow as tf


class EpochTable(keras.callbacks.Callback):
    """Appends a row per epoch to a CSV file, and the same numbers to TensorBoard as scalars.

    Args:
        path: The CSV file; rows of an earlier part of the run are kept.
        log_dir: Folder of the event files, or `None`.
        columns: Names in the order of the columns; the rest of the epoch's logs follows.
    """

    def __init__(self, path: str, log_dir: str | None = None, columns: Iterable[str] = ()):
        super().__init__()
        self._path = pathlib.Path(path)
        self._writer = None if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        self._columns = list(columns)

    def on_epoch_end(self, epoch, logs=None):
        """Write the row."""
        row = {"epoch": epoch + 1, **(logs or {})}
        if "step" in row:  # Keras hands all logs over as floats.
            row["step"] = int(row["step"])
        names = [*self._columns, *(name for name in row if name not in self._columns)]
        rows = [r for r in self._rows() if int(r["epoch"]) < row["epoch"]]
        partial = self._path.with_name(f".{self._path.name}")  # a kill leaves the old table
        with partial.open("w", newline="") as file:
            table = csv.DictWriter(file, names, extrasaction="ignore")
            table.writeheader()
            table.writerows([*rows, row])
        os.replace(partial, self._path)
        if self._writer is not None:
            with self._writer.as_default(int(row.get("step", row["epoch"]))):
                for name, value in row.items():
                    tf.summary.scalar(_tag(name), value)
            self._writer.flush()

    def _rows(self) -> list[dict]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))


def _tag(name: str) -> str:
    """The TensorBoard tag of a column, grouped by kind."""
    if name.startswith("test_"):
        return f"test/{name[5:]}"
    training = ("loss", "task_loss", "l2_loss", "alignment_loss", "top1", "top5")
    return f"train/{name}" if name in training else f"run/{name}"
