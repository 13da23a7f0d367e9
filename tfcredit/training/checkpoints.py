"""Checkpoints of all state of a training."""

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping

import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.files import PARTIAL, partial, scratch, written
from tfcredit.tensor_files import reason
from tfcredit.training.checkpoint_reading import DamagedError, Stored

INDEX = re.compile(r"ckpt-(\d+)\.index")
PIECE = re.compile(r"ckpt-(\d+)\.(index|data-.*)|ckpt-\d+_temp")
"""The names of all files and folders that belong to checkpoints, finished or not."""
TOP1 = "top1.json"
"""The file beside the best checkpoint that says how good it is."""


class Checkpoints:
    """Saves and restores named variables, and the step.

    The names are given, since `tf.train.Checkpoint` on a Keras model or optimizer leaves out what
    Keras does not track as TensorFlow does (seed states, inner optimizers of `MultiOptimizer`)
    and says nothing, and restores Keras' optimizers by position. A checkpoint is there whole or
    not at all: its index gets its name after all else has been written. Which checkpoints there
    are is read from the folder, so that TensorFlow's file `checkpoint`, which is written for
    others, may be missing or wrong.

    Args:
        folder: Where the checkpoints lie. Its name may hold any character.
        variables: Name -> variable, of all state (see `tfcredit.training.state`).
        keep: Number of checkpoints kept.
        writes: True if this process writes them. With several workers all must call `save`, as
            sums over replicas are exchanged then, but only the chief's files count; the others
            write to a folder that is deleted.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        variables: Mapping[str, tf.Variable],
        keep: int = 3,
        writes: bool = True,
    ):
        self.folder = folder
        self._variables = dict(variables)
        self._keep = keep
        self._throw_away = None if writes else scratch()
        self._target = folder if writes else pathlib.Path(self._throw_away.name)
        self._damaged: set[int] = set()

    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there, in ascending order."""
        return _steps(self.folder)

    def times(self) -> dict[int, int]:
        """Step -> the time at which the checkpoint was written, in nanoseconds."""
        found = {}
        for step in self.steps():
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found[step] = _of(self._prefix(step), ".index").stat().st_mtime_ns
        return found

    @property
    def latest(self) -> pathlib.Path | None:
        """The prefix of the newest checkpoint that is not known to be damaged, or `None`."""
        good = [step for step in self.steps() if step not in self._damaged]
        return self._prefix(good[-1]) if good else None

    def _prefix(self, step: int) -> pathlib.Path:
        return self.folder / f"ckpt-{step}"

    def leftovers(self) -> list[str]:
        """Names of files that belong to checkpoints, whole or not."""
        found = _entries(self.folder) + _entries(self.folder / "best")
        return [path.name for path in found if PIECE.fullmatch(path.name)]

    def save(self, step: int) -> pathlib.Path:
        """Write a checkpoint; a failure leaves the earlier ones as they were.

        Args:
            step: The number of optimizer steps done.

        Returns:
            Its prefix.

        Raises:
            UserError: The folder can't be written, or the disk is full.
        """
        with self._telling(self._target, step):
            self._write(self._target, step, self._keep)
        self._damaged.clear()
        return self._prefix(step)

    def save_best(self, step: int, top1: float) -> None:
        """Write this state to the folder `best`, in place of the one that is there.

        Args:
            step: The number of optimizer steps done.
            top1: The accuracy for which it is the best.

        Raises:
            UserError: The folder can't be written, or the disk is full.
        """
        with self._telling(self._target / "best", step):
            self._write(self._target / "best", step, 1)
            with written(self._target / "best" / TOP1) as unfinished:
                unfinished.write_text(json.dumps({"step": step, "top1": top1}) + "\n")

    def best(self) -> tuple[float | None, int] | None:
        """Find the best state.

        Returns:
            Its top-1, `None` if that is not known, and its step; `None` if there is no best state.
        """
        folder = self.folder / "best"
        if not (steps := _steps(folder)):
            return None
        try:
            known = json.loads((folder / TOP1).read_text())
            top1 = float(known["top1"]) if known["step"] == steps[-1] else None
        except (OSError, ValueError, TypeError, KeyError):
            top1 = None
        return top1, steps[-1]

    @contextlib.contextmanager
    def _telling(self, folder: pathlib.Path, step: int) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as problem:
            if isinstance(problem, tf.errors.UnavailableError | tf.errors.DeadlineExceededError):
                raise  # a worker was lost
            raise UserError(
                f"the checkpoint of step {step} can't be written to {folder} "
                f"({reason(problem)}): free space or mend the permissions, then "
                f"{'start it again' if self.latest is None else 'continue with --resume=must'}; "
                f"the last good one is {self.latest or 'none'}."
            ) from None

    def _write(self, folder: pathlib.Path, step: int, keep: int) -> None:
        folder.mkdir(exist_ok=True)
        self._write_files(folder / f"ckpt-{step}", step)
        # Steps beyond this one were undone: the checkpoint from which the run goes on is older.
        good = [s for s in _steps(folder) if s <= step and s not in self._damaged - {step}]
        _name_for_others(folder, good[-keep:])
        _sweep(folder, good[-keep:])

    def _write_files(self, prefix: pathlib.Path, step: int) -> None:
        unfinished = partial(prefix)
        names = ["step", *self._variables]
        tensors = [
            tf.constant(step, tf.int64),
            *map(tf.convert_to_tensor, self._variables.values()),
        ]
        try:
            tf.raw_ops.SaveV2(
                prefix=str(unfinished),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=tensors,
            )
            index, (data,) = _of(unfinished, ".index"), _pieces(unfinished)
            # An index that is there must never stand beside the data of another checkpoint.
            _delete(_of(prefix, ".index"))
            target = _of(prefix, data.name.removeprefix(unfinished.name))
            if target.is_dir():
                _delete(target)
            os.replace(data, target)
            os.replace(index, _of(prefix, ".index"))
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(prefix.parent, unfinished.name)
            raise

    def restore(self) -> int | None:
        """Restore the newest checkpoint that is whole.

        Damaged ones that are newer are named, with the one that takes their place.

        Returns:
            Its step; `None` if there is no checkpoint.

        Raises:
            UserError: All are damaged, or the newest is of another network.
        """
        reasons: dict[int, str] = {}
        while left := [step for step in self.steps() if step not in reasons]:
            # Looked up anew each time: the run that writes them may delete the one that is read.
            prefix = self._prefix(left[-1])
            try:
                with Stored(prefix) as stored:
                    stored.assign_to(self._variables)
            except DamagedError as problem:
                reasons[left[-1]] = str(problem)
                continue
            self._damaged = {step for step in reasons if _of(self._prefix(step), ".index").exists()}
            for step in sorted(self._damaged):
                print(
                    f"{self._prefix(step)} is damaged ({reasons[step]}): taking {prefix} instead.",
                    flush=True,
                )
            return left[-1]
        if reasons:
            raise UserError(
                f"no checkpoint in {self.folder} can be read (newest: ckpt-{max(reasons)}, "
                f"{reasons[max(reasons)]}): put back copies of them, or start the run anew in "
                "another --run_dir; nothing was touched."
            )
        return None

    def sweep(self) -> None:
        """Finish what a killed process left: unfinished checkpoints go, and those beyond `keep`.

        Raises:
            OSError: The folder can't be written.
        """
        for folder, keep in ((self._target, self._keep), (self._target / "best", 1)):
            damaged = self._damaged if folder == self._target else set()
            good = [step for step in _steps(folder) if step not in damaged][-keep:]
            if good:
                _name_for_others(folder, good)
            _sweep(folder, [*good, *damaged])


def newest(folder: pathlib.Path) -> pathlib.Path | None:
    """The prefix of the newest checkpoint in a folder.

    Args:
        folder: Where checkpoints lie.

    Returns:
        Its prefix; `None` if there is none.
    """
    steps = _steps(folder)
    return folder / f"ckpt-{steps[-1]}" if steps else None


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _steps(folder: pathlib.Path) -> list[int]:
    found = (INDEX.fullmatch(path.name) for path in _entries(folder))
    return sorted(int(match[1]) for match in found if match)


def _of(prefix: pathlib.Path, ending: str) -> pathlib.Path:
    return prefix.with_name(prefix.name + ending)


def _pieces(prefix: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkpoint's data."""
    start = f"{prefix.name}.data-"
    return [path for path in _entries(prefix.parent) if path.name.startswith(start)]


def _remove(folder: pathlib.Path, start: str) -> None:
    for path in _entries(folder):
        if path.name.startswith(start):
            _delete(path)


def _delete(path: pathlib.Path) -> None:
    """Delete a file, a link or a folder, if it is there."""
    is_folder = path.is_dir() and not path.is_symlink()
    shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)


def _sweep(folder: pathlib.Path, keep: list[int]) -> None:
    """Delete all checkpoints but some, and what is unfinished."""
    kept = {f"ckpt-{step}" for step in keep}
    paths = _entries(folder)
    # The indexes first: what has no index is no checkpoint.
    for path in sorted(paths, key=lambda path: path.suffix != ".index"):
        match = PIECE.fullmatch(path.name)
        if path.name.startswith(PARTIAL) or match and path.name.split(".")[0] not in kept:
            _delete(path)


def _name_for_others(folder: pathlib.Path, steps: list[int]) -> None:
    """Write the file in which TensorFlow looks for the newest checkpoint."""
    lines = [f'model_checkpoint_path: "ckpt-{steps[-1]}"']
    lines += [f'all_model_checkpoint_paths: "ckpt-{step}"' for step in steps]
    with written(folder / "checkpoint") as unfinished:
        unfinished.write_text("\n".join(lines) + "\n")
