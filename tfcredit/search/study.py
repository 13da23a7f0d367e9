"""The study of a search: its trials in a storage, and the folder of its runs and results."""

import contextlib
import json
import os
import pathlib
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from tfcredit.directories import Directory
from tfcredit.errors import UserError
from tfcredit.files import InUseError, locked, partial, written
from tfcredit.records import write_csv
from tfcredit.search import figures
from tfcredit.search.space import Parameter, apply
from tfcredit.search.storage import ERRORS, Storage
from tfcredit.search.trials import Trials, is_given_up, machine_of, number_of
from tfcredit.seeding import derive
from tfcredit.training.flags import LARGEST
from tfcredit.training.known_images import difference
from tfcredit.training.recipe import Recipe, recipe_of
from tfcredit.training.run_directory import RunDirectory, differences, told

NAME = "tfcredit"
"""Of a study, by default."""
UNFINISHED = 5.0
"""Seconds after which who made a study without saying what it searches counts as dead."""
PATIENCE = 5.0
"""Seconds to wait for another process that writes the results in the same folder."""
_RESULTS = ("top1", "part", "validation_top1")


class Study(Directory):
    """Files of a search: `study.json study.db trials/ trials.csv importance.csv best.cfg plots/`.

    The trials are in a storage. By default it is `study.db` in the folder, on which one process at
    a time works (`Directory.locked`). On a storage that is given several may work, with a folder
    each or one for all. What a trial tries depends on the seed, its number and the trials that have
    ended before it only.

    Args:
        path: The folder.
        recipe: What the trials have in common; its seed is that of the search.
        space: What they vary.
        images: What is known of the images, as `known_images.described` gives it.
        storage: Where the trials are kept. Default: `study.db` in the folder.
        name: Of the study in the storage.
    """

    flag = "study_dir"
    holds = "search"
    again = "give the same command again"

    def __init__(
        self,
        path: str | os.PathLike,
        recipe: Recipe,
        space: dict[str, Parameter],
        images: Mapping[str, Any] | None = None,
        storage: Storage | None = None,
        name: str = NAME,
    ):
        super().__init__(path)
        self.recipe, self.space, self.images = recipe, space, dict(images or {})
        self.name = name
        self.database = self.path / "study.db"
        self.stated = self.path / "study.json"
        self.runs = self.path / "trials"
        self.table = self.path / "trials.csv"
        self.importance = self.path / "importance.csv"
        self.best_flags = self.path / "best.cfg"
        self.plots = self.path / "plots"
        self.alone = storage is None
        self.storage = storage or Storage.of_file(self.database)

    def check(self) -> None:
        """Check that the search may be started or continued here.

        Raises:
            UserError: The folder holds another search or other files; the storage can't be reached,
                is damaged or holds another search of this name.
        """
        self.check_files(self.lock, self.stated, self.database)
        self.check_files(self.table, self.importance, self.best_flags)
        self.check_folders(self.runs, self.plots)
        if self.alone:
            self._check_own_folder()
        else:
            self._check_folder_beside_storage()
        if not self.storage.can_exist():
            return
        try:
            with self.storage.connected() as storage:
                study = self._found(storage, create=False)
                if study is not None:
                    self._check_same(study)
                elif self.stated.exists():
                    raise self._elsewhere()
        except ERRORS as problem:
            raise self.storage.refused(problem) from None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the study or read the one that is there; lock the folder if it is for one process.

        Raises:
            UserError: As `check`, or another process has the folder, or it can't be written.
        """
        with self.locked(writes=self.alone):
            self.check()
            try:
                with self.storage.connected() as storage:
                    self.study = self._found(storage, create=True)
                    self._check_same(self.study)
                    self._mark()
                    self.trials = Trials(self.study, storage, self.alone)
                    yield
            except ERRORS as problem:
                if self.alone:
                    raise self.unwritable(OSError("no more trials can be stored")) from None
                raise self.storage.failed(problem) from None

    def ask(self, total: int) -> optuna.Trial | None:
        """A trial to train now.

        Args:
            total: Trials in all.

        Returns:
            The trial; `None` if others train all that are left.
        """
        return self.trials.claim(total, self._is_at_work)

    def tell(
        self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None
    ) -> FrozenTrial | None:
        """End a trial as `Trials.tell` does, and note the results of its run."""
        # Others may have no such folder.
        summary = RunDirectory(self.run_of(number_of(trial))).read_summary()
        if summary is not None:
            results = {name: summary[name] for name in _RESULTS if name in summary}
            self.trials.note(trial, "results", results)
        return self.trials.tell(trial, value, state)

    def recipe_of(self, trial: optuna.Trial) -> Recipe:
        """The recipe of a trial, with what it tries, its seed and its run directory."""
        number = number_of(trial)
        # Of each trial anew, so that a continued search draws what it would have drawn.
        seed = derive(self.recipe.seed, "sampler", number)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        values = {name: one.suggest(name, trial) for name, one in self.space.items()}
        run = f"--run_dir={self.run_of(number)}"
        return apply(values, self.recipe, self._seed(number), run, "--resume=auto")

    def run_of(self, number: int) -> pathlib.Path:
        """The run directory of a trial."""
        return self.runs / f"{number:04}"

    def report(self, trial: optuna.Trial) -> bool:
        """Tell the study the epochs that a trial's run has written.

        Args:
            trial: The trial.

        Returns:
            True if the trial is to be pruned, or another process took it up.
        """
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        try:
            for row in RunDirectory(self.run_of(number_of(trial))).rows(LARGEST):
                if row["epoch"] not in known:
                    trial.report(row.get("validation_top1", row.get("test_top1")), row["epoch"])
        except UpdateFinishedTrialError:
            return True
        return trial.should_prune()

    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended in any way."""
        return self.trials.ended()

    def best(self) -> FrozenTrial | None:
        """The first of those whose runs came to the end with the highest accuracy."""
        good = [t for t in self.ended() if outcome(t) == "finished"]
        return max(good, key=lambda trial: (trial.value, -number_of(trial)), default=None)

    def results_of(self, trial: FrozenTrial) -> str:
        """The accuracy that a trial is judged by, and beside it, if another, that of the test."""
        summary = trial.user_attrs.get("results")
        if summary is None:  # in searches of earlier versions
            summary = RunDirectory(self.run_of(number_of(trial))).read_summary() or {}
        if "validation_top1" not in summary:
            return f"test top-1 {trial.value:.4f}"
        told = f"validation top-1 {trial.value:.4f}"
        if summary.get("part") == "validation":
            return told
        return f"{told}, test top-1 {summary['top1']:.4f}"

    def write_results(self) -> None:
        """Write `trials.csv` and `best.cfg`, or leave it to another process that is at it.

        Raises:
            UserError: The folder can't be written.
        """
        with contextlib.suppress(InUseError), self._writing_alone():
            rows = self._rows()
            self._write_table(self.table, rows)
            best = self.best()
            if best is not None:
                number = number_of(best)
                recipe = apply(best.params, self.recipe, self._seed(number))
                told = f"# Trial {number} of {len(rows)}: {self.results_of(best)}\n"
                self.write(self.best_flags, told + recipe.flagfile())

    def write_analysis(self) -> None:
        """Write `importance.csv` and `plots/`, where two trials or more have a value.

        Raises:
            UserError: The folder can't be written.
        """
        if sum(trial.state == TrialState.COMPLETE for trial in self.ended()) < 2:
            return
        with contextlib.suppress(InUseError), self._writing_alone():
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
                    with written(self.plots / f"{name}.png") as unfinished:
                        figure.savefig(unfinished)

    @contextlib.contextmanager
    def _writing_alone(self) -> Iterator[None]:
        """Keep other processes from writing the same files; who is alone has the lock already."""
        with contextlib.ExitStack() as stack:
            if not self.alone:
                with self.writing():
                    stack.enter_context(locked(self.lock, PATIENCE))
            yield

    def _importances(self) -> dict[str, float]:
        """The share of each parameter in putting a trial among the best tenth (PED-ANOVA)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few trials Optuna warns that all are equal
            return optuna.importance.get_param_importances(self.study)

    def _rows(self) -> list[dict]:
        """The trials as rows of `trials.csv`."""
        found = self.trials.current().items()
        begun = [(n, t) for n, t in found if t.params or t.state.is_finished()]
        return [_row(number, trial, self.space) for number, trial in begun]

    def _write_table(self, path: pathlib.Path, rows: list[dict]) -> None:
        with self.writing():
            write_csv(rows, path)

    def _stated(self) -> dict[str, dict]:
        return {name: one.stated() for name, one in self.space.items()}

    def _seed(self, number: int) -> str:
        return f"--seed={derive(self.recipe.seed, 'trial', number)}"

    def _check_own_folder(self) -> None:
        if self.stated.exists():
            raise self._elsewhere()
        if not self.database.exists():
            begun = partial(self.database).name  # of a killed start of an earlier version
            paths = self.path.iterdir() if self.path.is_dir() else ()
            self.check_foreign({path for path in paths if path.name.startswith(begun)})

    def _check_folder_beside_storage(self) -> None:
        if self.database.exists() and self.database.absolute() != self.storage.file:
            raise UserError(
                f"{self.path} holds a search of its own ({self.database.name}), not that of "
                f"--storage={self.storage}: give another --study_dir."
            )
        if not self.stated.exists() and not self.database.exists():
            # Other machines may begin at the same time.
            own = {self.stated, partial(self.stated)}
            if file := self.storage.file:
                own |= {file, file.with_name(f"{file.name}-journal")}
            self.check_foreign(own)

    def _is_at_work(self, number: int) -> bool:
        """True if a process trains the run of a trial here, given up or not."""
        return not self.alone and RunDirectory(self.run_of(number)).is_locked()

    def _mark(self) -> None:
        """Tell in a folder beside a storage which study it belongs to."""
        if self.alone or self.stated.exists():
            return
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
        belongs = {"storage": str(self.storage), "study": self.name, "id": _id_of(self.study)}
        with contextlib.suppress(InUseError), self._writing_alone():
            self.write_json(self.stated, belongs)

    def _belongs(self) -> dict:
        try:
            return dict(json.loads(self.stated.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return {}

    def _elsewhere(self) -> UserError:
        own = self._belongs()
        return UserError(
            f"{self.path} belongs to the study {own.get('study')} in {own.get('storage')}, which "
            "is another one or gone: give its --storage and --study_name, or another --study_dir."
        )

    def _found(self, storage: optuna.storages.BaseStorage, create: bool) -> optuna.Study | None:
        """The study, once it is said what it searches."""
        pruner = optuna.pruners.MedianPruner()
        try:
            study = optuna.load_study(storage=storage, study_name=self.name, pruner=pruner)
        except KeyError:
            if not create:
                return None
            try:
                study = optuna.create_study(
                    storage=storage, study_name=self.name, pruner=pruner, direction="maximize"
                )
                self._say(study)
            except DuplicatedStudyError:  # another machine was faster
                study = optuna.load_study(storage=storage, study_name=self.name, pruner=pruner)
        deadline = time.monotonic() + UNFINISHED
        while not {"flags", "space"} <= set(study.user_attrs):
            if study.get_trials(deepcopy=False):
                raise self.storage.refused(f"its study {self.name} is none of tfcredit")
            if not create:
                return None
            if time.monotonic() > deadline:
                self._say(study)
            time.sleep(0.1)
        return study

    def _say(self, study: optuna.Study) -> None:
        study.set_user_attr("id", secrets.token_hex(16))
        study.set_user_attr("images", self.images)
        study.set_user_attr("flags", self.recipe.flagfile().splitlines())
        study.set_user_attr("space", self._stated())

    def _check_same(self, study: optuna.Study) -> None:
        """Check that the study is that of the folder, and searches the same."""
        if self.stated.exists() and self._belongs().get("id") != _id_of(study):
            raise self._elsewhere()
        recipe = recipe_of(study.user_attrs["flags"])
        space = study.user_attrs["space"]
        images = study.user_attrs.get("images", {})  # none of earlier versions
        place = self.path if self.alone else f"--storage={self.storage}"
        instead = "--study_dir" if self.alone else f"--study_name (this one: {self.name})"
        found = [told(*each) for each in differences(recipe, self.recipe)]
        for name in {**space, **self._stated()}:
            old, new = space.get(name), self._stated().get(name)
            if old != new:
                found.append(f"{name} in {old or 'no range'}, not {new or 'in none'}")
        if found:
            raise UserError(
                f"{place} holds a search with {'; '.join(found)}: give the flags and the space "
                f"that it was started with, or another {instead}."
            )
        if differs := difference(images, self.images):
            raise UserError(
                f"{place} holds a search with {differs}: give the images that it was started with, "
                f"or another {instead}."
            )
        self.images = images or self.images


def _id_of(study: optuna.Study) -> str | None:
    return study.user_attrs.get("id")


def outcome(trial: FrozenTrial) -> str:
    """The end of a trial: `finished`, `diverged`, `pruned` or `failed`; or `running`, `waiting`."""
    if is_given_up(trial):
        return "waiting"
    if trial.state == TrialState.COMPLETE:
        return "diverged" if "diverged" in trial.user_attrs else "finished"
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()


def _row(number: int, trial: FrozenTrial, space: dict[str, Parameter]) -> dict:
    """A row of `trials.csv`."""
    seconds = trial.duration.total_seconds() if trial.duration is not None else None
    return {
        "trial": number,
        "outcome": outcome(trial),
        "top1": trial.value,
        "epochs": len(trial.intermediate_values),
        "seconds": None if seconds is None else round(seconds, 1),
        "machine": machine_of(trial),
        **{name: trial.params.get(name) for name in space},
    }
