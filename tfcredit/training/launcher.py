"""Runs of one command, so many at a time, each in a process of its own."""

import abc
import collections
from collections.abc import Mapping
from multiprocessing.connection import wait
from typing import Any

from tfcredit.errors import UserError
from tfcredit.interrupt import StopSignal
from tfcredit.training import workers
from tfcredit.training.processes import RunProcess
from tfcredit.training.recipe import Recipe
from tfcredit.training.run_directory import RunDirectory

ATTEMPTS = 2
"""Starts of a run whose process crashes."""
PATIENCE = 1.0
"""Seconds between two looks at whether the command is asked to stop."""


class Launcher(abc.ABC):
    """Trains runs until there are no more.

    A subclass says which. A task is whatever stands for a run there.

    Args:
        jobs: Runs at a time.
        images: What is known of the images that all runs are to have, as
            `known_images.described` gives it; nothing for any.
    """

    def __init__(self, jobs: int, images: Mapping[str, Any]):
        self.jobs = jobs
        self.images = images
        self._rank, self._commands = workers.place_on_machine()
        self.running: dict[RunProcess, Any] = {}
        self._crashes: collections.Counter[str] = collections.Counter()

    @abc.abstractmethod
    def next(self) -> Any:
        """The task to start now; `None` if there is none."""

    @abc.abstractmethod
    def name_of(self, task: Any) -> str:
        """What messages call a task."""

    @abc.abstractmethod
    def start_of(self, task: Any) -> tuple[Recipe, str]:
        """The recipe of a task, and the file that gets what its run prints."""

    @abc.abstractmethod
    def is_to_stop(self, task: Any) -> bool:
        """True to end a run here that has told the end of an epoch."""

    @abc.abstractmethod
    def ended(self, task: Any, word: str, what: str | float | None) -> None:
        """Take note of the end of a task.

        Args:
            task: The task.
            word: "finished", "diverged", "crashed", or "pruned" if `is_to_stop` ended it.
            what: What the process said beside that word.
        """

    def tend(self) -> None:  # noqa: B027
        """Do what is to be done again and again while runs train; called some seconds apart."""

    def has_ended(self) -> bool:
        """True if there is nothing to wait for when no run trains here."""
        return True

    def left(self, task: Any) -> None:  # noqa: B027
        """Take note that a task was stopped, saved, and may be continued."""

    def run(self) -> bool:
        """Train them.

        Returns:
            True if all have ended; False if SIGTERM, SIGHUP or Ctrl-C came, and all is saved.

        Raises:
            UserError: A run can't be started: the flags, the data or the disk.
        """
        with StopSignal() as stop:
            try:
                while not stop.asked:
                    self.tend()
                    while len(self.running) < self.jobs and (task := self.next()) is not None:
                        self._start(task)
                    if not self.running and self.has_ended():
                        return True
                    speaking = wait([one.connection for one in self.running], PATIENCE)
                    for process in [p for p in self.running if p.connection in speaking]:
                        self._hear(process)
            finally:
                self._stop()
        return False

    def _start(self, task: Any) -> None:
        taken = {process.place for process in self.running}
        own = range(self._rank * self.jobs, (self._rank + 1) * self.jobs)
        place = next(place for place in own if place not in taken)
        recipe, log = self.start_of(task)
        RunDirectory.of(recipe).expect_images(self.images)
        self.running[RunProcess(recipe, log, place, self._commands * self.jobs)] = task

    def _hear(self, process: RunProcess) -> None:
        task = self.running[process]
        word, what = process.hear()
        if word == "epoch":
            if self.is_to_stop(task):
                process.answer("stop")
                self._end(process, "pruned")
            else:
                process.answer("go")
        elif word in ("finished", "diverged"):
            self._end(process, word, what)
        elif word == "mistake":
            raise UserError(f"{self.name_of(task)} can't be run: {what}")
        else:
            self._crashed(process)

    def _crashed(self, process: RunProcess) -> None:
        name = self.name_of(self.running[process])
        self._crashes[name] += 1
        if self._crashes[name] < ATTEMPTS:
            process.join()
            self._start(self.running.pop(process))
        else:
            self._end(process, "crashed")

    def _end(self, process: RunProcess, word: str, what: str | float | None = None) -> None:
        process.join()
        self.ended(self.running.pop(process), word, what)

    def drop(self, task: Any) -> None:
        """End the run of a task that is none of this command's any more."""
        process = next(process for process, own in self.running.items() if own is task)
        del self.running[process]
        process.abandon()

    def _stop(self) -> None:
        """Let the runs save and end; a later start continues them."""
        for process in self.running:
            process.answer("stop")
        stopped = []
        while self.running:
            process, task = self.running.popitem()
            while process.hear()[0] == "epoch":
                pass
            process.join()
            stopped.append(task)
        for task in stopped:  # all runs are saved, whatever fails now
            self.left(task)
