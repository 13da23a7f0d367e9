"""The time that a run takes, over all its starts, as it stood at each of its checkpoints."""

import json
import time
from collections.abc import Collection

from tfcredit.training.run_directory import RunDirectory


class Progress:
    """Counts the seconds of a run and of its epoch, and goes on where a checkpoint stands.

    What it knows is written before the checkpoint that it belongs to, and found by the step of
    that: a run that is killed in between goes on from a step that is known too.

    Args:
        directory: Of the run.
        step: The step from which the run goes on.
        writes: True if this process writes the directory.
    """

    def __init__(self, directory: RunDirectory, step: int, writes: bool = True):
        self._directory = directory
        self._writes = writes
        self._stored = _read(directory)
        found = self._stored.get(str(step), [0.0, 0, 0.0])
        self._seconds, self._epoch_steps, self._epoch_seconds = found
        self._started = self._turned = time.monotonic()
        self._running = False
        self._counted, self._counted_from = 0, None

    @property
    def seconds(self) -> float:
        """Of the run so far."""
        return self._seconds + time.monotonic() - self._started

    def begin(self, is_new: bool) -> None:
        """Count the time from here on as the epoch's.

        Args:
            is_new: True at its first step.
        """
        if is_new:
            self._epoch_steps, self._epoch_seconds = 0, 0.0
        self._turned, self._running = time.monotonic(), True

    def count(self, steps: int) -> None:
        """Count steps of the epoch."""
        self._epoch_steps += steps
        if self._counted_from is None:  # The first steps of a start also make TensorFlow's graph.
            self._counted_from = time.monotonic()
        else:
            self._counted += steps

    def seconds_left(self, steps: int) -> float | None:
        """The time that steps take at the speed of this start, its evaluations included.

        Args:
            steps: So many steps.

        Returns:
            Seconds; `None` before the speed is known.
        """
        if not self._counted:
            return None
        return steps * (time.monotonic() - self._counted_from) / self._counted

    def speed(self) -> float | None:
        """Steps per second of the epoch so far; `None` if nothing is known of its steps."""
        seconds = self._epoch_time()
        return self._epoch_steps / seconds if self._epoch_steps and seconds else None

    def end(self) -> float | None:
        """End the epoch: what follows is not of its time.

        Returns:
            Its `speed`.
        """
        self._epoch_seconds, self._running = self._epoch_time(), False
        return self.speed()

    def note(self, step: int, checkpoints: Collection[int]) -> None:
        """Write what is known, before the checkpoint of a step.

        Args:
            step: The step.
            checkpoints: The steps of the checkpoints that are there.

        Raises:
            UserError: The directory can't be written, or the disk is full.
        """
        kept = {str(one) for one in checkpoints}
        self._stored = {name: known for name, known in self._stored.items() if name in kept}
        known = [round(self.seconds, 3), self._epoch_steps, round(self._epoch_time(), 6)]
        self._stored[str(step)] = known
        if self._writes:
            self._directory.write_json(self._directory.progress, self._stored)

    def _epoch_time(self) -> float:
        running = time.monotonic() - self._turned if self._running else 0.0
        return self._epoch_seconds + running


def _read(directory: RunDirectory) -> dict[str, list[float]]:
    """Step -> seconds of the run, steps and seconds of its epoch; only times depend on it."""
    try:
        found = json.loads(directory.progress.read_text())
        return {
            str(int(step)): [max(0.0, float(run)), max(0, int(steps)), max(0.0, float(epoch))]
            for step, (run, steps, epoch) in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
