"""The directory of a search: Optuna's study in it, and the files that tell what was found."""

import contextlib
import csv
import io
import os
import pathlib
import warnings
from collections.abc import Iterator

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tfcredit.errors import UserError
from tfcredit.search import figures
from tfcredit.search.space import Parameter, apply
from tfcredit.seeding import derive
from tfcredit.training.recipe import LARGEST, Recipe, parse
from tfcredit.training.rundir import Directory, RunDirectory, differences

NAME = "tfcredit"
"""Of the study in the database."""


class Study(Directory):
    """Files of a search: `study.db trials/ trials.csv importance.csv best.cfg plots/`.

    One process at a time works on it (`Directory.locked`), so that a trial that is running when
    it is opened was cut off: it goes on where its run was. What a trial tries depends on the seed,
    its number and the trials that had ended only.

    Args:
        path: The folder.
        recipe: What the trials have in common; its seed is that of the search.
        space: What they vary.
    """

    flag = "study_dir"

    def __init__(self, path: str | os.PathLike, recipe: Recipe, space: dict[str, Parameter]):
        super().__init__(path)
        self.recipe, self.space = recipe, space
        self.database = self.path / "study.db"
        self.runs = self.path / "trials"
        self.table = self.path / "trials.csv"
        self.importance = self.path / "importance.csv"
        self.best_flags = self.path / "best.cfg"
        self.plots = self.path / "plots"

    def check(self) -> None:
        """Check that the search may be started or continued here.

        Raises:
            UserError: The folder holds another search, other files or a damaged study.
        """
        if not self.database.exists():
            self.check_foreign({self._partial()}, "search")
            return
        with self._explained():
            stored = self._load().user_attrs
            recipe, _ = parse(stored["flags"])
            space = stored["space"]
        for name, old, new in differences(recipe, self.recipe):
            raise self._another(f"--{name}={old}, not {new}")
        for name in {**space, **self._stated()}:
            old, new = space.get(name), self._stated().get(name)
            if old != new:
                raise self._another(f"{name} in {old or 'no range'}, not {new or 'in none'}")

    def open(self) -> None:
        """Make the study, or read the one that is there, in the (locked) folder.

        Raises:
            UserError: As `check`, or the folder can't be written.
        """
        self.check()
        with self._explained():
            if not self.database.exists():
                self._create()
            self.study = self._load()

    def ask(self) -> optuna.Trial:
        """A new trial; `values` has what it tries."""
        number = len(self.study.get_trials(deepcopy=False))
        # Of each trial anew, so that a continued search draws what it would have drawn.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=derive(self.recipe.seed, "sampler", number), constant_liar=True
        )
        return self.study.ask()

    def cut_off(self) -> list[optuna.Trial]:
        """The trials that were running when the search was last ended."""
        storage = self.study._storage  # Optuna has no public way back to a trial that runs
        return [
            optuna.Trial(self.study, trial._trial_id)
            for trial in storage.get_all_trials(self.study._study_id, states=[TrialState.RUNNING])
        ]

    def recipe_of(self, trial: optuna.Trial) -> Recipe:
        """The recipe of a trial, with its seed and run directory."""
        values = {name: one.suggest(name, trial) for name, one in self.space.items()}
        return apply(
            values,
            self.recipe,
            f"--seed={derive(self.recipe.seed, 'trial', trial.number)}",
            f"--run_dir={self.run_of(trial.number)}",
            "--resume=auto",
        )

    def run_of(self, number: int) -> pathlib.Path:
        """The run directory of a trial."""
        return self.runs / f"{number:04}"

    def report(self, trial: optuna.Trial) -> bool:
        """Tell the study the epochs that a trial's run has written.

        Returns:
            Whether the trial is to be pruned.
        """
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for row in RunDirectory(self.run_of(trial.number)).rows(LARGEST):
            if int(row["epoch"]) not in known:
                trial.report(float(row["test_top1"]), int(row["epoch"]))
        return trial.should_prune()

    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended, whatever the way."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]

    def best(self) -> FrozenTrial | None:
        """The first of those whose runs came to the end with the highest accuracy."""
        good = [t for t in self.ended() if outcome(t) == "finished"]
        return max(good, key=lambda trial: (trial.value, -trial.number), default=None)

    def write_results(self) -> None:
        """Write `trials.csv` and `best.cfg`.

        Raises:
            UserError: The folder can't be written.
        """
        rows = self._rows()
        self._write_table(self.table, rows)
        best = self.best()
        if best is not None:
            flags = RunDirectory(self.run_of(best.number)).flags.read_text()
            told = f"# Trial {best.number} of {len(rows)}: test top-1 {best.value:.4f}\n"
            self.write(self.best_flags, told + flags)

    def write_analysis(self) -> None:
        """Write `importance.csv` and `plots/`, where two trials or more have a value.

        Raises:
            UserError: The folder can't be written.
        """
        if sum(trial.state == TrialState.COMPLETE for trial in self.ended()) < 2:
            return
        shares = self._importances()
        rows = [{"flag": name, "importance": value} for name, value in shares.items()]
        self._write_table(self.importance, rows)
        rows = [row for row in self._rows() if row["top1"] is not None]
        drawn = {
            "history": figures.history(rows),
            "slices": figures.slices(rows, self.space),
            "parallel": figures.parallel(rows, self.space),
            "importance": figures.importance(shares),
        }
        try:
            self.plots.mkdir(exist_ok=True)
            for name, figure in drawn.items():
                figure.savefig(self.plots / f"{name}.png")
        except OSError as problem:
            raise self.unwritable(problem) from None

    def _importances(self) -> dict[str, float]:
        """How much each parameter decides whether a trial is among the best tenth (PED-ANOVA)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few trials Optuna warns that all are equal
            return optuna.importance.get_param_importances(self.study)

    def _rows(self) -> list[dict]:
        """The trials as rows of `trials.csv`."""
        return [_row(trial, self.space) for trial in self.study.get_trials(deepcopy=False)]

    def _write_table(self, path: pathlib.Path, rows: list[dict]) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        self.write(path, text.getvalue())

    def _stated(self) -> dict[str, dict]:
        return {name: one.stated() for name, one in self.space.items()}

    def _partial(self) -> pathlib.Path:
        return self.path / f".{self.database.name}"

    def _create(self) -> None:
        """Make the database so that it is there whole or not at all."""
        partial = self._partial()
        partial.unlink(missing_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{partial.absolute()}")
        study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
        study.set_user_attr("flags", self.recipe.flagfile().splitlines())
        study.set_user_attr("space", self._stated())
        storage.remove_session()
        storage.engine.dispose()
        os.replace(partial, self.database)

    def _load(self) -> optuna.Study:
        storage = optuna.storages.RDBStorage(f"sqlite:///{self.database.absolute()}")
        return optuna.load_study(
            storage=storage, study_name=NAME, pruner=optuna.pruners.MedianPruner()
        )

    def _another(self, what: str) -> UserError:
        return UserError(
            f"{self.path} holds a search with {what}: give the flags and the space that it was "
            "started with, or another --study_dir."
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what Optuna raises for a file that is none of its own into a user's error."""
        try:
            yield
        except OSError as problem:
            raise self.unwritable(problem) from None
        except (SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, RuntimeError):
            raise UserError(
                f"{self.database} is damaged or no study of tfcredit: give another --study_dir."
            ) from None


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended: `finished`, `diverged`, `pruned` or `failed`; or `running`."""
    if trial.state == TrialState.COMPLETE:
        return "diverged" if "diverged" in trial.user_attrs else "finished"
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()


def _row(trial: FrozenTrial, space: dict[str, Parameter]) -> dict:
    """A row of `trials.csv`."""
    seconds = trial.duration.total_seconds() if trial.duration is not None else None
    return {
        "trial": trial.number,
        "outcome": outcome(trial),
        "top1": trial.value,
        "epochs": len(trial.intermediate_values),
        "seconds": None if seconds is None else round(seconds, 1),
        **{name: trial.params.get(name) for name in space},
    }
