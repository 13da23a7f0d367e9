"""The loop of a search: start trials, prune and count them, and print each that ends."""

import time

import optuna
from optuna.trial import TrialState

from tfcredit.search.study import Study, outcome
from tfcredit.training import launcher
from tfcredit.training.recipe import Recipe


class Launcher(launcher.Launcher):
    """Runs trials until so many have ended.

    Args:
        study: The opened study.
        trials: Trials that end, in all, those of earlier starts included.
        jobs: Trials at a time.
    """

    def __init__(self, study: Study, trials: int, jobs: int):
        super().__init__(jobs, study.images)
        self.study, self.trials = study, trials
        self._waiting = study.cut_off()

    def next(self) -> optuna.Trial | None:
        """See `tfcredit.training.launcher.Launcher`."""
        if len(self.study.ended()) + len(self.running) >= self.trials:
            return None
        return self._waiting.pop(0) if self._waiting else self.study.ask()

    def name_of(self, task: optuna.Trial) -> str:
        """See `tfcredit.training.launcher.Launcher`."""
        return f"trial {task.number}"

    def start_of(self, task: optuna.Trial) -> tuple[Recipe, str]:
        """See `tfcredit.training.launcher.Launcher`."""
        recipe = self.study.recipe_of(task)
        with self.study.writing():
            self.study.runs.mkdir(exist_ok=True)
        return recipe, f"{self.study.run_of(task.number)}.log"

    def is_to_stop(self, task: optuna.Trial) -> bool:
        """See `tfcredit.training.launcher.Launcher`."""
        return self.study.report(task)

    def ended(self, task: optuna.Trial, word: str, what: str | float | None) -> None:
        """Tell the study and the user how a trial ended."""
        if word in ("finished", "diverged"):
            self.study.report(task)
        if word == "diverged":
            # The worst value there is, so that the sampler learns to stay away.
            task.set_user_attr("diverged", what)
            what = 0.0
        states = {"pruned": TrialState.PRUNED, "crashed": TrialState.FAIL}
        ended = self.study.tell(task, what, states.get(word))
        self.study.write_results()
        best, number = self.study.best(), ended.number
        told = outcome(ended)
        if told == "finished":
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


def _short(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
