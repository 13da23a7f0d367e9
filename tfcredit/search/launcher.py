"""The loop of a search: start trials, prune and count them, and print each that ends."""

import time

import optuna
from optuna.trial import TrialState

from tfcredit.search.study import Study, outcome
from tfcredit.search.trials import machine_of, number_of
from tfcredit.training import launcher
from tfcredit.training.flags import choosing_images
from tfcredit.training.recipe import Recipe
from tfcredit.training.run_directory import RunDirectory


class Launcher(launcher.Launcher):
    """Runs trials until so many have ended, here and on other machines.

    Args:
        study: The opened study.
        trials: Trials that end, in all, those of earlier starts and other machines included.
        jobs: Trials at a time, here.
    """

    def __init__(self, study: Study, trials: int, jobs: int):
        # What a trial varies may give it other images than the first has.
        varies = set(choosing_images(Recipe)) & set(study.space)
        super().__init__(jobs, {} if varies else study.images)
        self.study, self.trials = study, trials
        self._awaited: set[int] = set()

    def tend(self) -> None:
        """See `tfcredit.training.launcher.Launcher`."""
        for task in self.study.trials.beat(list(self.running.values())):
            self.drop(task)
            self._lost(task)

    def next(self) -> optuna.Trial | None:
        """See `tfcredit.training.launcher.Launcher`."""
        task = self.study.ask(self.trials)
        if task is not None and task.params and not self.study.alone:
            number = number_of(task)
            run = RunDirectory(self.study.run_of(number))
            how = "goes on from its checkpoint" if run.holds_run() else "starts again"
            print(f"{_now()}  trial {number}, which another process began, {how}", flush=True)
        return task

    def has_ended(self) -> bool:
        """True if other machines train no trials either, which would be taken up if they died."""
        if len(self.study.ended()) >= self.trials:
            return True
        elsewhere = self.study.trials.elsewhere()
        if set(elsewhere) - self._awaited:
            machines = ", ".join(sorted({machine_of(r) or "?" for r in elsewhere.values()}))
            numbers = ", ".join(map(str, elsewhere))
            print(f"{_now()}  waiting for trials {numbers} of {machines}", flush=True)
        self._awaited |= set(elsewhere)
        return False

    def left(self, task: optuna.Trial) -> None:
        """See `tfcredit.training.launcher.Launcher`."""
        self.study.trials.release(task)

    def name_of(self, task: optuna.Trial) -> str:
        """See `tfcredit.training.launcher.Launcher`."""
        return f"trial {number_of(task)}"

    def start_of(self, task: optuna.Trial) -> tuple[Recipe, str]:
        """See `tfcredit.training.launcher.Launcher`."""
        recipe = self.study.recipe_of(task)
        number = number_of(task)
        with self.study.writing():
            self.study.runs.mkdir(exist_ok=True)
        return recipe, f"{self.study.run_of(number)}.log"

    def is_to_stop(self, task: optuna.Trial) -> bool:
        """See `tfcredit.training.launcher.Launcher`."""
        return self.study.report(task)

    def ended(self, task: optuna.Trial, word: str, what: str | float | None) -> None:
        """Tell the study and the user how a trial ended."""
        if word in ("finished", "diverged"):
            self.study.report(task)
        if word == "diverged":
            # The worst value there is, so that the sampler learns to stay away.
            self.study.trials.note(task, "diverged", what)
            what = 0.0
        states = {"pruned": TrialState.PRUNED, "crashed": TrialState.FAIL}
        ended = self.study.tell(task, what, states.get(word))
        if ended is None:
            self._lost(task)
            return
        self.study.write_results()
        best, number = self.study.best(), number_of(ended)
        told = outcome(ended)
        if told == "finished":
            told = f"top-1 {ended.value:.4f}"
        elif told == "failed":
            told = f"failed, see {self.study.run_of(number)}.log"
        tried = ", ".join(f"{name}={_short(value)}" for name, value in ended.params.items())
        print(
            f"{_now()}  {len(self.study.ended())}/{self.trials}  "
            f"trial {number}: {told}  ({tried})"
            + ("" if best is None else f"  best: {best.value:.4f}, trial {number_of(best)}"),
            flush=True,
        )

    def _lost(self, task: optuna.Trial) -> None:
        print(
            f"{_now()}  trial {number_of(task)}: given up by other machines, which had no sign of "
            "life of this one; it is tried again",
            flush=True,
        )


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _short(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
