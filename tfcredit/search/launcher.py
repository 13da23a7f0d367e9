"""The loop of a search: start trials, prune and count them, and print each that ends."""

import os
import time
from multiprocessing.connection import wait

import optuna
from optuna.trial import TrialState

from tfcredit.errors import UserError
from tfcredit.search.process import TrialProcess
from tfcredit.search.study import Study, outcome
from tfcredit.training.interrupt import StopSignal

ATTEMPTS = 2
"""Starts of a trial whose process crashes."""
PATIENCE = 1.0
"""Seconds between two looks at whether the search is asked to stop."""


class Launcher:
    """Runs trials until so many have ended.

    Args:
        study: The opened study.
        trials: Trials that end, in all, those of earlier starts included.
        jobs: Trials at a time.
    """

    def __init__(self, study: Study, trials: int, jobs: int):
        self.study, self.trials, self.jobs = study, trials, jobs
        self._threads = None if jobs == 1 else max(1, os.cpu_count() // jobs)
        self._running: dict[TrialProcess, optuna.Trial] = {}
        self._crashes: dict[int, int] = {}

    def run(self) -> bool:
        """Run them.

        Returns:
            True if all have ended; False if SIGTERM, SIGHUP or Ctrl-C came, and all is saved.

        Raises:
            UserError: A trial can't be run: the flags, the data or the disk.
        """
        waiting = self.study.cut_off()
        with StopSignal() as stop:
            try:
                while not stop.asked:
                    left = self.trials - len(self.study.ended()) - len(self._running)
                    for _ in range(min(left, self.jobs - len(self._running))):
                        self._start(waiting.pop(0) if waiting else self.study.ask())
                    if not self._running:
                        return True
                    speaking = wait([one.connection for one in self._running], PATIENCE)
                    for process in [p for p in self._running if p.connection in speaking]:
                        self._hear(process)
            finally:
                self._stop()
        return False

    def _start(self, trial: optuna.Trial) -> None:
        recipe = self.study.recipe_of(trial)
        try:
            self.study.runs.mkdir(exist_ok=True)
        except OSError as problem:
            raise self.study.unwritable(problem) from None
        log = f"{self.study.run_of(trial.number)}.log"
        self._running[TrialProcess(recipe, log, self._threads)] = trial

    def _hear(self, process: TrialProcess) -> None:
        trial = self._running[process]
        word, what = process.hear()
        if word == "epoch":
            if self.study.report(trial):
                process.answer("stop")
                self._end(process, state=TrialState.PRUNED)
            else:
                process.answer("go")
        elif word == "finished":
            self.study.report(trial)
            self._end(process, what)
        elif word == "diverged":
            # The worst value there is, so that the sampler learns to stay away.
            self.study.report(trial)
            trial.set_user_attr("diverged", what)
            self._end(process, 0.0)
        elif word == "mistake":
            raise UserError(f"trial {trial.number} can't be run: {what}")
        else:
            self._crashed(process)

    def _crashed(self, process: TrialProcess) -> None:
        number = self._running[process].number
        self._crashes[number] = self._crashes.get(number, 0) + 1
        if self._crashes[number] < ATTEMPTS:
            process.join()
            self._start(self._running.pop(process))
        else:
            self._end(process, state=TrialState.FAIL)

    def _end(self, process: TrialProcess, value=None, state=None) -> None:
        """Tell the study and the user how a trial ended, once its process is gone."""
        process.join()
        ended = self.study.tell(self._running.pop(process), value, state)
        self.study.write_results()
        best, number = self.study.best(), ended.number
        told = outcome(ended)
        if ended.value is not None and told == "finished":
            told = f"top-1 {ended.value:.4f}"
        elif told == "failed":
            told = f"failed, see {self.study.run_of(number)}.log"
        tried = ", ".join(f"{name}={_short(value)}" for name, value in ended.params.items())
        print(
            f"{time.strftime('%H:%M:%S')}  {len(self.study.ended())}/{self.trials}  "
            f"trial {number}: {told}  ({tried})"
            + ("" if best is None else f"  best: {best.value:.4f}, trial {best.number}"),
            flush=True,
        )

    def _stop(self) -> None:
        """Let the runs save and end; a later start continues them."""
        for process in self._running:
            process.answer("stop")
        for process in self._running:
            while process.hear()[0] == "epoch":
                pass
            process.join()
        self._running.clear()


def _short(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
