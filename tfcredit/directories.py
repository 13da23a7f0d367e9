"""Folders that one process at a time writes, and the names of the files of a run."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.files import InUseError, is_locked, locked, place, written
from tfcredit.tensor_files import reason

_OF_EVENTS = ("events writer", "events file")
"""In what TensorFlow says when it can't write TensorBoard's files."""


class Directory:
    """A folder that one process at a time writes.

    Args:
        path: The folder.

    Raises:
        UserError: It is an address such as `gs://...`, or as `tfcredit.files.place`.
    """

    flag = "run_dir"
    """Of the command line, which names the folder."""
    holds = "run"
    """What tfcredit keeps in it."""
    again = "continue with --resume=auto"
    """What goes on with that."""

    def __init__(self, path: str | os.PathLike):
        if "://" in os.fspath(path):
            raise UserError(
                f"{self.flag} {path} is an address, but a {self.holds} needs a folder of a file "
                "system, for its lock: give one; a bucket can be mounted as such."
            )
        self.path = place(path)
        self.lock = self.path / "lock"
        self._was_there = False

    @contextlib.contextmanager
    def locked(self, writes: bool = True) -> Iterator[None]:
        """Keep other processes from working here; the lock goes with the process.

        Args:
            writes: True if this process writes the directory; others need no lock.

        Raises:
            UserError: Another process holds the lock, or the directory can't be written.
        """
        if not writes:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self._was_there = True
                stack.enter_context(locked(self.lock))
            except InUseError as holder:
                raise UserError(
                    f"{self.path} is in use by {holder}: wait until it ends, or give another "
                    f"--{self.flag}."
                ) from None
            except OSError as problem:
                raise self.unwritable(problem) from None
            yield

    def is_locked(self) -> bool:
        """True while a process writes here."""
        return is_locked(self.lock)

    def write(self, path: pathlib.Path, text: str) -> None:
        """Write a small file so that it is there whole or not at all.

        Args:
            path: The file.
            text: Its content, written as UTF-8.

        Raises:
            UserError: The directory can't be written, or the disk is full.
        """
        with self.writing(), written(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="replace")

    def write_json(self, path: pathlib.Path, content: dict) -> None:
        """`write` of `content` as JSON."""
        self.write(path, json.dumps(content, indent=1, default=str) + "\n")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Tell of a block that could not write.

        Raises:
            UserError: The block raised an OSError.
        """
        try:
            yield
        except OSError as problem:
            raise self.unwritable(problem) from None
        except tf.errors.OpError as problem:
            if not any(words in str(problem) for words in (str(self.path), *_OF_EVENTS)):
                raise
            raise self.unwritable(OSError(reason(problem))) from None

    def unwritable(self, problem: OSError) -> UserError:
        """The error that tells that writing failed."""
        if self.path.is_symlink() and not self.path.exists():
            return UserError(
                f"{self.path} is a link that leads nowhere: mend it, or give another --{self.flag}."
            )
        if self._was_there and not self.path.exists():
            return UserError(
                f"{self.path} was moved or removed while it was in use: put it back, and "
                f"{self.again}."
            )
        name = f": {pathlib.Path(problem.filename).name}" if problem.filename else ""
        return UserError(
            f"{self.path} can't be written ({problem.strerror or problem}{name}): free space, mend "
            f"the permissions or give another --{self.flag}; what was saved before is intact."
        )

    def check_foreign(self, own: set[pathlib.Path]) -> None:
        """Check that the folder holds no files of others.

        Args:
            own: The files that may lie in it.

        Raises:
            UserError: It is a file or can't be read, or holds other files.
        """
        if self.path.is_file():
            raise UserError(f"{self.path} is a file: give a folder as --{self.flag}.")
        try:
            found = set(self.path.iterdir()) if self.path.exists() else set()
        except OSError as problem:
            raise UserError(
                f"{self.path} can't be read as a folder ({problem.strerror}): mend its "
                f"permissions, or give another --{self.flag}."
            ) from None
        if found - {self.lock, *own}:
            raise UserError(
                f"{self.path} is not empty and holds no {self.holds} of tfcredit: give another "
                f"--{self.flag}; nothing was touched."
            )

    def check_files(self, *paths: pathlib.Path) -> None:
        """Check that each of these is a regular file, or not there.

        Args:
            *paths: The paths.

        Raises:
            UserError: One is something else, or a link that leads nowhere.
        """
        for path in paths:
            self._check_kind(path, path.is_file(), "no regular file")

    def check_folders(self, *paths: pathlib.Path) -> None:
        """Check that each of these is a folder, or not there.

        Args:
            *paths: The paths.

        Raises:
            UserError: One is something else, or a link that leads nowhere.
        """
        for path in paths:
            self._check_kind(path, path.is_dir(), "no folder")

    def _check_kind(self, path: pathlib.Path, is_kind: bool, other: str) -> None:
        if is_kind or not os.path.lexists(path):
            return
        is_lost = path.is_symlink() and not path.exists()
        what = "a link that leads nowhere" if is_lost else other
        raise UserError(
            f"{path} is {what}, where a {self.holds} has its own: move it away, or give another "
            f"--{self.flag}; nothing was touched."
        )


class RunFiles(Directory):
    """Names of the files of one run.

    `flags.txt metrics.csv tensorboard/ checkpoints/ model.keras summary.json`; with `--measures`
    also `measures.csv`, with `--log_every_steps` `steps.csv`, and where classes have names
    `classes.json`. `images.json` is what is known of the images. Until it ends, `progress.json`
    holds its times. One that diverged has `diverged.txt` instead of a summary.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__(path)
        self.flags = self.path / "flags.txt"
        self.metrics = self.path / "metrics.csv"
        self.measures = self.path / "measures.csv"
        self.steps = self.path / "steps.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model.keras"
        self.summary = self.path / "summary.json"
        self.diverged = self.path / "diverged.txt"
        self.exported = self.path / "export"
        self.progress = self.path / "progress.json"
        self.classes = self.path / "classes.json"
        self.images = self.path / "images.json"

    def holds_run(self) -> bool:
        """True if a run was started here."""
        return self.flags.exists()

    def check_kinds(self) -> None:
        """Check that files are files and folders folders.

        Raises:
            UserError: One is something else, or a link that leads nowhere.
        """
        tables = (self.metrics, self.measures, self.steps)
        known = (self.lock, self.flags, self.classes, self.images, self.progress)
        self.check_files(*known, *tables, self.model, self.summary, self.diverged)
        self.check_folders(self.tensorboard, self.checkpoints, self.exported)
