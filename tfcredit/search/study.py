"""The directory of a search: Optuna's study in it, and the files that tell what was found."""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tfcredit.directories import Directory
from tfcredit.errors import UserError
from tfcredit.files import partial, written
from tfcredit.records import write_csv
from tfcredit.search import figures
from tfcredit.search.space import Parameter, apply
from tfcredit.seeding import derive
from tfcredit.training.flags import LARGEST
from tfcredit.training.known_images import difference
from tfcredit.training.recipe import Recipe, recipe_of
from tfcredit.training.run_directory import RunDirectory, differences, told

NAME = "tfcredit"
"""Of the study in the database."""


class Study(Directory):
    """Files of a search: `study.db trials/ trials.csv importance.csv best.cfg plots/`.

    One process at a time works on it (`Directory.locked`), so that a trial that is running when
    it is opened was cut off: it goes on where its run was. What a trial tries depends on the seed,
    its number and the trials before it only.

    Args:
        path: The folder.
        recipe: What the trials have in common; its seed is that of the search.
        space: What they vary.
        images: What is known of the images, as `known_images.described` gives it.
    """

    flag = "study_dir"

    def __init__(
        self,
        path: str | os.PathLike,
        recipe: Recipe,
        space: dict[str, Parameter],
        images: Mapping[str, Any] | None = None,
    ):
        super().__init__(path)
        self.recipe, self.space, self.images = recipe, space, dict(images or {})
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
            self.check_foreign(self._partial_files(), "search")
            return
        with self._loaded() as study:
            recipe = recipe_of(study.user_attrs["flags"])
            space = study.user_attrs["space"]
            images = study.user_attrs.get("images", {})  # none of earlier versions
        for name, old, new in differences(recipe, self.recipe):
            raise self._another(told(name, old, new))
        for name in {**space, **self._stated()}:
            old, new = space.get(name), self._stated().get(name)
            if old != new:
                raise self._another(f"{name} in {old or 'no range'}, not {new or 'in none'}")
        if differs := difference(images, self.images):
            raise UserError(
                f"{self.path} holds a search with {differs}: put the images back that it was "
                f"started with, or give another --{self.flag}."
            )
        self.images = images or self.images

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder, and make the study or read the one that is there.

        Raises:
            UserError: As `check`, or another process has the folder, or it can't be written.
        """
        with self.locked():
            self.check()
            try:
                if not self.database.exists():
                    self._create()
                with self._loaded() as self.study:
                    yield
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                raise self.unwritable(OSError("no more trials can be stored")) from None

    def ask(self) -> optuna.Trial:
        """A new trial."""
        return self.study.ask()

    def tell(
        self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None
    ) -> FrozenTrial:
        """End a trial, with the value or the state that it ended with."""
        return self.study.tell(trial, value, state)

    def cut_off(self) -> list[optuna.Trial]:
        """The trials that were running when the search was last ended."""
        running = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        study = self._storage.get_study_id_from_name(NAME)
        find = self._storage.get_trial_id_from_study_id_trial_number
        return [optuna.Trial(self.study, find(study, trial.number)) for trial in running]

    def recipe_of(self, trial: optuna.Trial) -> Recipe:
        """The recipe of a trial, with what it tries, its seed and its run directory."""
        # Of each trial anew, so that a continued search draws what it would have drawn.
        seed = derive(self.recipe.seed, "sampler", trial.number)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        values = {name: one.suggest(name, trial) for name, one in self.space.items()}
        run = f"--run_dir={self.run_of(trial.number)}"
        return apply(values, self.recipe, self._seed(trial.number), run, "--resume=auto")

    def run_of(self, number: int) -> pathlib.Path:
        """The run directory of a trial."""
        return self.runs / f"{number:04}"

    def report(self, trial: optuna.Trial) -> bool:
        """Tell the study the epochs that a trial's run has written.

        Args:
            trial: The trial.

        Returns:
            True if the trial is to be pruned.
        """
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for row in RunDirectory(self.run_of(trial.number)).rows(LARGEST):
            if row["epoch"] not in known:
                trial.report(row.get("validation_top1", row.get("test_top1")), row["epoch"])
        return trial.should_prune()

    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended in any way."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]

    def best(self) -> FrozenTrial | None:
        """The first of those whose runs came to the end with the highest accuracy."""
        good = [t for t in self.ended() if outcome(t) == "finished"]
        return max(good, key=lambda trial: (trial.value, -trial.number), default=None)

    def results_of(self, trial: FrozenTrial) -> str:
        """The accuracy that a trial is judged by, and beside it, if another, that of the test."""
        summary = RunDirectory(self.run_of(trial.number)).read_summary() or {}
        if "validation_top1" not in summary:
            return f"test top-1 {trial.value:.4f}"
        told = f"validation top-1 {trial.value:.4f}"
        if summary.get("part") == "validation":
            return told
        return f"{told}, test top-1 {summary['top1']:.4f}"

    def write_results(self) -> None:
        """Write `trials.csv` and `best.cfg`.

        Raises:
            UserError: The folder can't be written.
        """
        rows = self._rows()
        self._write_table(self.table, rows)
        best = self.best()
        if best is not None:
            recipe = apply(best.params, self.recipe, self._seed(best.number))
            told = f"# Trial {best.number} of {len(rows)}: {self.results_of(best)}\n"
            self.write(self.best_flags, told + recipe.flagfile())

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
        with self.writing():
            self.plots.mkdir(exist_ok=True)
            for name, figure in drawn.items():
                figure.savefig(self.plots / f"{name}.png")

    def _importances(self) -> dict[str, float]:
        """The share of each parameter in putting a trial among the best tenth (PED-ANOVA)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few trials Optuna warns that all are equal
            return optuna.importance.get_param_importances(self.study)

    def _rows(self) -> list[dict]:
        """The trials as rows of `trials.csv`."""
        return [_row(trial, self.space) for trial in self.study.get_trials(deepcopy=False)]

    def _write_table(self, path: pathlib.Path, rows: list[dict]) -> None:
        with self.writing():
            write_csv(rows, path)

    def _stated(self) -> dict[str, dict]:
        return {name: one.stated() for name, one in self.space.items()}

    def _seed(self, number: int) -> str:
        return f"--seed={derive(self.recipe.seed, 'trial', number)}"

    def _partial_files(self) -> set[pathlib.Path]:
        """The files that a killed start may have left of a database."""
        start = partial(self.database).name
        paths = self.path.iterdir() if self.path.is_dir() else ()
        return {path for path in paths if path.name.startswith(start)}

    def _create(self) -> None:
        """Make the database so that it is there whole or not at all."""
        for file in self._partial_files():
            file.unlink()
        with written(self.database) as unfinished:
            storage = _storage(unfinished)
            study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
            study.set_user_attr("flags", self.recipe.flagfile().splitlines())
            study.set_user_attr("space", self._stated())
            study.set_user_attr("images", self.images)
            _close(storage)

    @contextlib.contextmanager
    def _loaded(self) -> Iterator[optuna.Study]:
        """The study of the database, which is closed at the end."""
        try:
            self._storage = _storage(self.database)
            pruner = optuna.pruners.MedianPruner()
            study = optuna.load_study(storage=self._storage, study_name=NAME, pruner=pruner)
        except (SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, RuntimeError):
            raise UserError(
                f"{self.database} is damaged or no study of tfcredit: give another --study_dir."
            ) from None
        try:
            yield study
        finally:
            _close(self._storage)

    def _another(self, what: str) -> UserError:
        return UserError(
            f"{self.path} holds a search with {what}: give the flags and the space that it was "
            "started with, or another --study_dir."
        )


def _storage(path: pathlib.Path) -> optuna.storages.RDBStorage:
    url = sqlalchemy.URL.create("sqlite", database=str(path.absolute()))
    return optuna.storages.RDBStorage(url.render_as_string(hide_password=False))


def _close(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def outcome(trial: FrozenTrial) -> str:
    """The end of a trial: `finished`, `diverged`, `pruned` or `failed`; or `running`."""
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
