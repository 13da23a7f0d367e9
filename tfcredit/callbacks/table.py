"""The callback that keeps the table of epochs."""

from collections.abc import Iterable, Mapping

import keras
import tensorflow as tf

from tfcredit.callbacks.steps import event_writer
from tfcredit.files import place
from tfcredit.records import read_counted, write_csv


class EpochTable(keras.callbacks.Callback):
    """Appends a row per epoch to a CSV file, and the same numbers to TensorBoard as scalars.

    Args:
        path: The CSV file; rows of an earlier part of the run are kept.
        log_dir: Folder of the event files, local or `gs://...`, or `None`.
        columns: Names of the first columns, in this order; the other logs of the epoch follow.

    Raises:
        UserError: The table that is there can't be read.
    """

    def __init__(self, path: str, log_dir: str | None = None, columns: Iterable[str] = ()):
        super().__init__()
        self._path = place(path)
        self._writer = event_writer(log_dir)
        self._columns = list(columns)

    def on_epoch_end(self, epoch, logs=None):
        """Write the row."""
        self.write({"epoch": epoch + 1, **(logs or {})})

    def write(self, row: Mapping[str, float]) -> None:
        """Write a row in the place of those of the same epoch and of later ones.

        Args:
            row: With its `epoch`, 0 for the start.
        """
        row = dict(row)
        if "step" in row:  # Keras hands all logs over as floats.
            row["step"] = int(row["step"])
        earlier = read_counted(self._path, ("epoch",))
        rows = [before for before in earlier if before["epoch"] < row["epoch"]]
        if self._writer is not None:
            with self._writer.as_default(int(row.get("step", row["epoch"]))):
                for name, value in row.items():
                    tf.summary.scalar(tag_of(name), value)
            self._writer.flush()
        write_csv([*rows, row], self._path, self._columns)  # last: it says that all is written


def tag_of(name: str) -> str:
    """The TensorBoard tag of a column, grouped by kind.

    Args:
        name: The column.

    Returns:
        The tag.
    """
    part, _, rest = name.partition("_")
    if part in ("test", "validation"):
        return f"{part}/{rest}"
    training = ("loss", "task_loss", "l2_loss", "alignment_loss", "top1", "top5")
    return f"train/{name}" if name in training else f"run/{name}"
