"""The table of steps within epochs, and the same numbers in TensorBoard."""

import csv
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfcredit.callbacks.steps import event_writer
from tfcredit.training.run_directory import RunDirectory

TAG = "steps"
"""What the tags of these numbers begin with."""


class StepTable:
    """Rows of some steps of an epoch each: means over the steps since the row before.

    Args:
        directory: Of the run.
        rows: Those of earlier starts, up to the step from which the run goes on.
        epoch_steps: Steps of an epoch.
        alignment_every: R acts in every k-th step.
    """

    def __init__(
        self,
        directory: RunDirectory,
        rows: Sequence[Mapping[str, float]],
        epoch_steps: int,
        alignment_every: int = 1,
    ):
        self._path = directory.steps
        self._epoch_steps, self._every = epoch_steps, alignment_every
        self._step, self._sums = 0, {}
        for row in rows:
            self._begin(row["step"])
            self._add(row["step"], row)
        self._writer = event_writer(directory.tensorboard)

    def means(self, step: int, so_far: Mapping[str, float]) -> dict[str, float | None]:
        """Means over the steps since the row before, or since the epoch began.

        Args:
            step: Steps taken.
            so_far: Means over the steps of the epoch.

        Returns:
            The means; `None` for R if it did not act.
        """
        self._begin(step)
        found = dict.fromkeys(so_far)
        for name, mean in so_far.items():
            first, before, now = (self._count(name, at) for at in (self._first, self._step, step))
            if now > before:
                rest = mean * (now - first) - self._sums.get(name, 0.0)
                found[name] = rest / (now - before)
        self._add(step, found)
        return found

    def write(self, row: Mapping[str, float | None]) -> None:
        """Write a row behind the others; first its points in TensorBoard: it says that they are.

        Args:
            row: With its `epoch` and `step`; the names of all rows are the same.

        Raises:
            OSError: A file can't be written.
        """
        with self._writer.as_default(row["step"]):
            for name, value in row.items():
                if name not in ("step", "epoch") and value is not None:
                    tf.summary.scalar(f"{TAG}/{name}", value)
        self._writer.flush()
        is_new = not self._path.exists() or not self._path.stat().st_size
        with self._path.open("a", newline="") as file:
            table = csv.DictWriter(file, list(row))
            if is_new:
                table.writeheader()
            table.writerow(row)

    def _begin(self, step: int) -> None:
        """Start anew if the step is in a later epoch than the row before."""
        self._first = (step - 1) // self._epoch_steps * self._epoch_steps
        if self._step <= self._first:
            self._step, self._sums = self._first, {}

    def _add(self, step: int, means: Mapping[str, float | None]) -> None:
        # A continued run has the rows only, so that sums are of rows in others too.
        for name, mean in means.items():
            steps = self._count(name, step) - self._count(name, self._step)
            self._sums[name] = self._sums.get(name, 0.0) + (mean or 0.0) * steps
        self._step = step

    def _count(self, name: str, step: int) -> int:
        """Of how many steps, up to one, a mean is."""
        return -(-step // self._every) if name == "alignment_loss" else step
