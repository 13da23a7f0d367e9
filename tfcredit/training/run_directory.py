"""The directory of a run: what may be started or continued in it, and its tables."""

import contextlib
import datetime
import json
import pathlib
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import keras

from tfcredit.convert import to_backprop
from tfcredit.data import ImageData
from tfcredit.directories import RunFiles
from tfcredit.errors import UserError
from tfcredit.files import PARTIAL, InUseError, locked, partial, written, written_folder
from tfcredit.records import read_counted
from tfcredit.training import known_images
from tfcredit.training.checkpoints import TOP1
from tfcredit.training.flags import FILE, absolute, of_scope
from tfcredit.training.recipe import Recipe, recipe_of

LARGEST_FLAGS = 100_000
"""Bytes of `flags.txt`."""
PATIENCE = 600.0
"""Seconds to wait for another process that exports the run."""


class RunDirectory(RunFiles):
    """The directory of a run of the runner.

    Args:
        path: The folder.
    """

    @classmethod
    def of(cls, recipe: Recipe) -> "RunDirectory":
        """The directory that a recipe names, or a new one below `runs/`."""
        if recipe.run_dir is not None:
            return cls(recipe.run_dir)
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = as_name(f"{recipe.dataset}-{recipe.model}-{recipe.rule}-{now}")
        return cls(pathlib.Path("runs") / name)

    def check(self, recipe: Recipe) -> None:
        """Check that a run of `recipe` may be started or continued here.

        Args:
            recipe: The complete recipe.

        Raises:
            UserError: The directory holds another run or other files, or no run to continue.
        """
        self.check_kinds()
        if not self.holds_run():
            # What a start that was killed may have left before it wrote the flags.
            folders = (self.tensorboard, self.checkpoints)
            empty = {path for path in folders if path.is_dir() and not any(path.iterdir())}
            begun = empty | {partial(self.flags), self.images, partial(self.images)}
            self.check_foreign(begun)
        if self.holds_run() and not recipe.overwrite:
            if recipe.resume == "never":
                raise UserError(
                    f"{self.path} holds a run already: give another --run_dir, --resume=auto to "
                    "continue it, or --overwrite to delete it."
                )
            self._check_same(recipe)
        elif recipe.resume == "must":
            raise UserError(
                f"{self.path} holds no run to continue (no {self.flags.name}): check --run_dir, or "
                "use --resume=auto to start one."
            )

    def prepare(self, recipe: Recipe) -> None:
        """Fill the (locked) directory, if there is no run to be continued in it.

        Args:
            recipe: The complete recipe.

        Raises:
            UserError: As `check`, or the directory can't be written.
        """
        self.check(recipe)  # again: another process may have been here before the lock
        if self.holds_run() and not recipe.overwrite:
            return
        with self.writing():
            if self.holds_run():
                self._delete()
            for folder in (self.tensorboard, self.checkpoints):
                folder.mkdir(exist_ok=True)
        self.write(self.flags, recipe.flagfile())

    def rows(self, step: int) -> list[dict[str, float]]:
        """The rows of the table of epochs up to a step.

        Args:
            step: The last step that counts.

        Returns:
            Name of a column -> number; columns without a value are left out.

        Raises:
            UserError: The table is damaged.
        """
        return [row for row in read_counted(self.metrics) if row["step"] <= step]

    def measured(self, step: int) -> list[dict]:
        """The records of the table of measures up to a step.

        Args:
            step: The last step that counts.

        Returns:
            The records.

        Raises:
            UserError: The table is damaged.
        """
        records = read_counted(self.measures, ("step",), is_repeated=True)
        return [record for record in records if record["step"] <= step]

    def logged(self, step: int) -> list[dict]:
        """Leave the rows of the table of steps up to a step.

        Args:
            step: The last step that counts.

        Returns:
            The rows.

        Raises:
            UserError: The table is damaged.
            OSError: It can't be written.
        """
        rows = read_counted(self.steps, ("step",), cut=True)
        kept = [row for row in rows if row["step"] <= step]
        if not kept:
            self.steps.unlink(missing_ok=True)
        else:
            lines = self.steps.read_bytes().decode().splitlines(keepends=True)
            if len(lines) > len(kept) + 1:
                self.write(self.steps, "".join(lines[: len(kept) + 1]))
        return kept

    def check_fresh(self, leftovers: list[str]) -> None:
        """Check that no run has trained here whose checkpoints are gone.

        A run writes its first checkpoint before anything else, so that rows or events without a
        readable checkpoint tell that work was lost.

        Args:
            leftovers: Files of checkpoints, none of which is one.

        Raises:
            UserError: One has.
        """
        tables = (self.metrics, self.measures, self.steps, self.summary)
        found = [p.name for p in tables if p.exists()]
        if self.tensorboard.is_dir():
            found += [f"tensorboard/{path.name}" for path in self.tensorboard.iterdir()]
        found += [f"checkpoints/{name}" for name in leftovers]
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise UserError(
                f"{self.path} holds files of a run ({found[0]}{more}) but no checkpoint that can "
                "be read, so it can't be continued: put its checkpoints back, give another "
                "--run_dir, or --overwrite to delete what is there; nothing was touched."
            )

    def sweep(self) -> None:
        """Delete what killed processes left of unfinished files.

        Raises:
            OSError: The directory can't be written.
        """
        for folder in (self.path, self.tensorboard, self.exported):
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name.startswith(PARTIAL):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def class_names(self) -> tuple[str, ...]:
        """Read the names of the run's classes, in the order of their labels.

        Returns:
            The names; none if its classes have none.

        Raises:
            UserError: They can't be read.
        """
        if not self.classes.exists():
            return ()
        try:
            names = json.loads(self.classes.read_text())
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("a list of names was expected")
        except (OSError, ValueError) as problem:
            raise UserError(
                f"{self.classes} can't be read as the names of the run's classes ({problem}): put "
                "a copy of it back."
            ) from None
        return tuple(names)

    def check_classes(self, names: Collection[str]) -> None:
        """Check that images have the classes that the run was trained with.

        Args:
            names: Names of the images' classes; none if they have none.

        Raises:
            UserError: They are others.
        """
        own = self.class_names()
        if names and own and tuple(names) != own:
            odd = sorted(set(names) ^ set(own)) or [*names]
            raise UserError(
                f"{self.classes} has {len(own)} classes, the images have {len(names)} and differ "
                f"in {odd[0]!r}: give the images that the run was started with as --data_dir."
            )

    def known_images(self) -> dict[str, Any]:
        """Read what was kept of the run's images, as `known_images.described` gives it.

        Returns:
            The description; nothing of a run of an early version.

        Raises:
            UserError: It can't be read.
        """
        if not self.images.exists():
            return {}
        try:
            return known_images.checked(json.loads(self.images.read_text()))
        except (OSError, ValueError, RecursionError) as problem:
            raise UserError(
                f"{self.images} can't be read as what is known of the run's images ({problem}): "
                "put a copy of it back."
            ) from None

    def check_images(self, images: ImageData) -> None:
        """Check that the images are those that the run was started with, by number and name.

        Else an epoch has other steps, and images that the run has learned are held out.

        Args:
            images: The images.

        Raises:
            UserError: They are others, or what is known of them can't be read.
        """
        found = known_images.described(images)
        differs = known_images.difference(self.known_images(), found)
        if differs:
            raise UserError(
                f"{self.path} holds a run with {differs}: put the images back that the run was "
                "started with, or start another one from its weights "
                f"(--initial_weights={self.path})."
            )

    def expect_images(self, known: Mapping[str, Any]) -> None:
        """Have a run that starts here refuse other images than those of what it is part of.

        Args:
            known: What is known of them, as `known_images.described` gives it; nothing for any.

        Raises:
            UserError: The directory can't be written.
        """
        if known and not self.holds_run():
            with self.writing():
                self.path.mkdir(parents=True, exist_ok=True)
            self.write_json(self.images, dict(known))

    def keep_images(self, images: ImageData) -> None:
        """Write what is known of the images, or check those that are there.

        Args:
            images: The images; names of their classes are kept where they have some.

        Raises:
            UserError: As `check_classes` and `check_images`, or the directory can't be written.
        """
        names = images.class_names
        self.check_classes(names)
        self.check_images(images)
        if names and not self.classes.exists():
            self.write(self.classes, json.dumps(list(names), indent=1) + "\n")
        if not self.images.exists():
            self.write_json(self.images, known_images.described(images))

    def finished(self, step: int) -> dict | None:
        """The summary of a run that ended at a step; `None` if it has not ended there."""
        summary = self.read_summary()
        if summary is None or summary["step"] != step or not self.model.exists():
            return None  # It is written again.
        return summary

    def read_summary(self) -> dict | None:
        """The summary of a run that has ended; `None` if there is none or it is damaged."""
        try:
            summary = json.loads(self.summary.read_text())
            mean = [summary["mean_angle"]] if summary["mean_angle"] is not None else []
            numbers = [summary[name] for name in ("step", "top1", "top5", "loss")]
            numbers += [*mean, *summary["angles"].values(), summary.get("validation_top1", 0)]
            is_whole = type(summary["step"]) is int and isinstance(summary["data"], str)
            return summary if is_whole and all(map(_is_number, numbers)) else None
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def check_kinds(self) -> None:
        """See `RunFiles.check_kinds`; the best checkpoint, too."""
        super().check_kinds()
        best, named = self.checkpoints / "best", self.checkpoints / "checkpoint"
        self._check_kind(named, not named.is_dir(), "no regular file")
        self.check_folders(best)
        self.check_files(best / TOP1)

    def _delete(self) -> None:
        """Delete all but the lock; the flags, which make it a run, last."""
        entries = [entry for entry in self.path.iterdir() if entry not in (self.lock, self.flags)]
        for entry in entries:
            # A link is deleted, not what it leads to.
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self.flags.unlink()

    def save_model(self, network: keras.Model, path: pathlib.Path | None = None) -> None:
        """Save a model so that it is there whole or not at all.

        Args:
            network: The model.
            path: A `.keras` file. Default: `model.keras` of the run.

        Raises:
            UserError: The directory can't be written, or the disk is full.
        """
        with self.writing(), written(path or self.model) as unfinished:
            network.save(unfinished)

    def export(self, network: keras.Model) -> dict[str, str]:
        """Write `export/`: `model.keras`, `saved_model/` for serving, `backprop.keras`.

        The last is a plain Keras network with the same forward weights; it needs no tfcredit.

        Args:
            network: The model.

        Returns:
            Kind -> path.

        Raises:
            UserError: The directory can't be written, or the disk is full.
        """
        paths = {
            "keras": self.exported / "model.keras",
            "saved_model": self.exported / "saved_model",
            "backprop": self.exported / "backprop.keras",
        }
        with self.writing(), self._exporting():
            self.save_model(network, paths["keras"])
            plain = to_backprop(network)
            self.save_model(plain, paths["backprop"])
            with written_folder(paths["saved_model"]) as unfinished:
                plain.export(unfinished, verbose=False)
        return {kind: str(path) for kind, path in paths.items()}

    @contextlib.contextmanager
    def _exporting(self) -> Iterator[None]:
        """Take turns with other processes that export, so that all files are of one of them."""
        self.exported.mkdir(exist_ok=True)
        try:
            with locked(self.exported / ".lock", PATIENCE):
                yield
        except InUseError as holder:
            raise UserError(
                f"{self.exported} is being written by {holder}: wait until it ends."
            ) from None

    def _check_same(self, recipe: Recipe):
        for name, old, new in differences(self.stored(), recipe):
            raise self._another(name, old, new)

    def _another(self, name: str, old: Any, new: Any) -> UserError:
        return UserError(
            f"{self.path} holds a run with {told(name, old, new)}: give the flags it "
            f"was started with (--flagfile={shlex.quote(str(self.flags))}) or another --run_dir."
        )

    def stored(self) -> Recipe:
        """Read the flags that the run was started with.

        Returns:
            The recipe that they describe.

        Raises:
            UserError: They can't be read.
        """
        try:
            if self.flags.stat().st_size > LARGEST_FLAGS:
                raise ValueError("it is far too long")
            return recipe_of(self.flags.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError) as problem:
            raise UserError(
                f"{self.flags} can't be read as the flags of a run ({str(problem).rstrip('.')}): "
                "put a copy of it back, or give another --run_dir; nothing was touched."
            ) from None

    def recipe_to_use(self, recipe: Recipe, given: Collection[str] | None = None) -> Recipe:
        """The recipe of the run that is here, to evaluate or export it.

        Args:
            recipe: The flags of this start.
            given: Those that were given. Default: those that differ from their defaults.

        Returns:
            The run's own flags, with those of this start that may change.

        Raises:
            UserError: There is no run, or a flag that was given says that it is another one.
        """
        self.check_kinds()
        if not self.holds_run():
            raise UserError(
                f"{self.path} holds no run to {recipe.mode}: give the --run_dir of one."
            )
        stored = self.stored()
        if given is None:
            given = {f.name for f in fields(recipe) if getattr(recipe, f.name) != f.default}
        for name, old, new in differences(stored, recipe):
            if name in given:
                raise self._another(name, old, new)
        once = {name: getattr(recipe, name) for name in of_scope(recipe, "once")}
        start = [*of_scope(recipe, "start"), "model"]  # a file of a network may have been moved
        start = {name: getattr(recipe, name) for name in start if name in given}
        return replace(stored, **once, **start)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and (value != value or abs(value) < 1e300)


def as_name(rule: str) -> str:
    """A rule, or other flags, as a part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in rule)


def told(name: str, old: Any, new: Any) -> str:
    """A flag that differs, for an error.

    Args:
        name: The flag.
        old: Its value in what is there.
        new: Its value now.

    Returns:
        Words for "it holds a run with ...".
    """
    if name == "model" and str(old)[:1] == str(new)[:1] == "<":
        return (
            f"another network, --model={old}, not {new} (Keras numbers what has no name of its own "
            "anew: name the network and its layers, or let a function make it)"
        )
    if name == "model_digest":
        return f"another network than --model gives now (--model_digest={old}, not {new})"
    return f"--{name}={old}, not {new}"


def differences(stored: Recipe, given: Recipe) -> list[tuple[str, Any, Any]]:
    """Compare the flags that make a run what it is; a network of the user's own may be moved.

    Args:
        stored: The flags of a run.
        given: Those of another, without `--model_digest` if its network is checked later.

    Returns:
        Name and both values of each flag that differs.
    """
    flags = [(name, getattr(stored, name), getattr(given, name)) for name in of_scope(given, "run")]
    alike = stored.model_digest is not None and given.model_digest in (None, stored.model_digest)
    return [
        flag
        for flag in flags
        if absolute(given, *flag[:2]) != absolute(given, flag[0], flag[2])
        and not (flag[0] == "model" and alike and _is_moved(*flag[1:]))
    ]


def _is_moved(old: str | None, new: str | None) -> bool:
    """True if two values of `--model` name a file, or a function in one, that was moved."""
    files = all(one is not None and FILE.fullmatch(one) for one in (old, new))
    return files and pathlib.Path(old).name == pathlib.Path(new).name
