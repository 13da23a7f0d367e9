"""The line that tells how a run goes, drawn again and again on a terminal, else written anew."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import keras

WIDTH = 80
"""Columns of a line at most."""
PAUSE = 0.2
"""Seconds between two drawings on a terminal."""


class ProgressLine(keras.callbacks.Callback):
    """Tells of an epoch: where it is, the task's loss, top-1, the mean angle of W and B, time left.

    Args:
        total_steps: Steps of the run.
        epoch_steps: Steps of an epoch.
        seconds_left: Tells for a number of steps how long they take, `None` if that is not known.
        angle: Tells the mean angle of W and B in degrees, `None` without feedback kernels.
        file: Where to write; a terminal has the line of the epoch at every moment.
    """

    def __init__(
        self,
        total_steps: int,
        epoch_steps: int,
        seconds_left: Callable[[int], float | None],
        angle: Callable[[], float | None],
        file: TextIO | None = None,
    ):
        super().__init__()
        self._total, self._epoch_steps = total_steps, epoch_steps
        self._seconds_left, self._angle = seconds_left, angle
        self._file = sys.stdout if file is None else file
        self._live = self._file.isatty()
        self._drawn = 0.0
        self._epoch = self._step = 0
        self._logs: Mapping[str, float | None] = {}
        self._known: float | None = None

    def on_train_begin(self, logs=None):
        """Measure the angle at the start."""
        self._known = self._angle()

    def on_epoch_begin(self, epoch, logs=None):
        """Take note of the epoch."""
        self._epoch, self._logs = epoch, {}

    def on_train_batch_end(self, batch, logs=None):
        """Draw the line again."""
        self._step = self._epoch * self._epoch_steps + batch + 1
        self._logs, now = logs or self._logs, time.monotonic()
        if self._live and now - self._drawn >= PAUSE:
            self._drawn = now
            self._write(f"\r{self._within(self._logs):{WIDTH}}")

    def on_log(self, row: Mapping[str, float | None]):
        """Tell of some steps within an epoch.

        Args:
            row: Of the table of steps.
        """
        self._known = self._angle()
        if not self._live:
            self._write(f"{self._within(row)}\n")

    def on_epoch_end(self, epoch, logs=None):
        """Tell of the epoch."""
        self._known = self._angle()
        self._step = min((epoch + 1) * self._epoch_steps, self._total)
        line = self._line([f"Epoch {epoch + 1}/{self._epochs}"], logs or {})
        self._write(f"\r{line:{WIDTH}}\n" if self._live else f"{line}\n")

    def on_start(self, logs: Mapping[str, float]):
        """Tell of an evaluation before the first step.

        Args:
            logs: What it gave.
        """
        self._write(f"{self._line(['Start'], logs)}\n")

    def _within(self, logs: Mapping[str, float | None]) -> str:
        """The line within an epoch."""
        before = self._epoch * self._epoch_steps
        steps = min(self._epoch_steps, self._total - before)
        place = f"{self._step - before}/{steps}"
        return self._line([f"Epoch {self._epoch + 1}/{self._epochs}", place], logs)

    @property
    def _epochs(self) -> int:
        return -(-self._total // self._epoch_steps)

    def _line(self, parts: list[str], logs: Mapping[str, float | None]) -> str:
        """The parts, and what is known, as far as it fits; what matters least goes first."""
        left = self._seconds_left(self._total - self._step)
        numbers = {
            "task_loss": ("loss", "#.4g"),
            "top1": ("top-1", ".4f"),
            "test_top1": ("test", ".4f"),
            "validation_top1": ("val", ".4f"),
        }
        found = {
            name: f"{word} {logs[name]:{form}}".rstrip(".")
            for name, (word, form) in numbers.items()
            if logs.get(name) is not None
        }
        if self._known is not None:
            found["angle"] = f"angle {self._known:.1f}"
        if left is not None and self._step < self._total:
            found["left"] = f"{duration(left)} left"
        for name in ("", "top1", "angle", "left", "task_loss"):
            found.pop(name, None)
            line = "  ".join([*parts, *found.values()])
            if len(line) <= WIDTH:
                break
        return line[:WIDTH]

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def duration(seconds: float) -> str:
    """Seconds as one reads them.

    Args:
        seconds: At least 0.

    Returns:
        Minutes and seconds, hours before them, or days and hours.

    Example:
        >>> duration(62), duration(7325), duration(200_000)
        ('1:02', '2:02:05', '2 d 7 h')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
