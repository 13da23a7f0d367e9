"""The content of run directories, as far as it can be read."""

import csv
import dataclasses
import json
import math
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tfcredit.errors import UserError
from tfcredit.report.events import read_scalars
from tfcredit.report.files import NotRead, open_inside, read_text
from tfcredit.training.recipe import Recipe, recipe_of
from tfcredit.training.run_directory import RunDirectory

MOST_TEXT = 2**20
"""Bytes of flags or a summary."""
MOST_TABLE = 2**26
"""Bytes of a table."""
MOST_LAYERS = 200
MOST_TIMES = 400
MOST_ROWS = 2_000
"""Of a run, in figures: more could not be told apart."""
LARGEST = 1e100
"""Of a number that a figure can show."""


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run as its directory tells it.

    Args:
        name: Its path below the folder that all compared runs share.
        recipe: Its flags.
        state: "finished", "diverged", "in progress", or "not finished" if no process trains it.
        summary: `summary.json`; of an unfinished run the same numbers so far, where there are any.
        rows: `metrics.csv`: a dict of numbers per epoch; NaN where they are not finite.
        angles: Records with `step`, `layer` and `angle` in degrees, over the whole training.
        mean_angles: Records with `step` and `mean_angle`.
        error_angles: Records with `step`, `layer` and `error_angle`, of a run with `--measures`.
        notes: Sentences on what is missing or damaged.
    """

    name: str
    recipe: Recipe
    state: str
    summary: dict
    rows: list[dict[str, float]]
    angles: list[dict]
    mean_angles: list[dict]
    error_angles: list[dict]
    notes: list[str]


def find_runs(paths: Sequence[str | os.PathLike]) -> list[StoredRun]:
    """Read runs; see `read_runs`, which also tells what was left out."""
    return read_runs(paths)[0]


def read_runs(paths: Sequence[str | os.PathLike]) -> tuple[list[StoredRun], list[str]]:
    """Read runs.

    Args:
        paths: Run directories, or folders with runs somewhere below.

    Returns:
        The runs in the order of `paths`, and by name within each, none of them twice; and notes on
        folders below that look like runs, but can't be read as such.

    Raises:
        UserError: A path is no folder or holds no run, or the flags or the summary of a run that
            it names are damaged, or those of all runs below it.
    """
    folders: dict[pathlib.Path, bool] = {}
    for path in map(pathlib.Path, paths):
        is_named = RunDirectory(path).holds_run()
        flags = [path / "flags.txt"] if is_named else _flags_below(path)
        if not flags:
            raise UserError(
                f"{path} holds no run (no flags.txt there or below): give the --run_dir of one, or "
                "a folder of such."
            )
        for file in flags:
            folders[file.parent.resolve()] = is_named or folders.get(file.parent.resolve(), False)
    shared = os.path.commonpath([folder.parent for folder in folders])
    runs, notes, problem = [], [], None
    for folder, is_named in folders.items():
        name = os.path.relpath(folder, shared)
        try:
            runs.append(_read(RunDirectory(folder), name))
        except UserError as refused:
            if is_named:
                raise
            problem = refused
            notes.append(f"{name} is left out: {refused}")
    if problem is not None and not runs:
        raise problem
    return runs, notes


def _flags_below(path: pathlib.Path) -> list[pathlib.Path]:
    # Unlike `rglob`, it takes no notice of folders that a training deletes meanwhile.
    found = [os.path.join(folder, "flags.txt") for folder, _, _ in os.walk(path)]
    return sorted(pathlib.Path(file) for file in found if os.path.exists(file))


def _read(directory: RunDirectory, name: str) -> StoredRun:
    recipe = _recipe(directory)
    rows, notes = _metrics(directory)
    angles, means, event_notes = _angles(directory)
    error_angles, measure_notes = _error_angles(directory)
    notes += event_notes + measure_notes
    if os.path.lexists(directory.summary):
        state, summary = "finished", _summary(directory)
        at = summary.get("evaluated_step")  # of a fit that did not validate each epoch
        if at is not None and at != summary.get("step"):
            notes.append(f"the results are those of step {at}, the last that was evaluated.")
    else:
        state = _state(directory)
        notes.insert(0, f"{state}: no {directory.summary.name}; the results are those so far.")
        last = {**(rows[-1] if rows else {}), **(means[-1] if means else {})}
        summary = {"step": last.get("step"), "mean_angle": last.get("mean_angle")}
        evaluated = [row for row in rows if judged(row, "top1") is not None]
        summary |= {name: judged(evaluated[-1], name) for name in ("top1", "top5") if evaluated}
    return StoredRun(name, recipe, state, summary, rows, angles, means, error_angles, notes)


def _state(directory: RunDirectory) -> str:
    """Of a run without a summary."""
    if _is_locked(directory):
        return "in progress"
    return "diverged" if directory.diverged.is_file() else "not finished"


def _is_locked(directory: RunDirectory) -> bool:
    try:
        open_inside(directory.path, directory.lock).close()
        return directory.is_locked()
    except (NotRead, OSError):
        return False


def _recipe(directory: RunDirectory) -> Recipe:
    try:
        return recipe_of(read_text(directory.path, directory.flags, MOST_TEXT).splitlines())
    except (NotRead, UserError, ValueError, OverflowError, RecursionError) as problem:
        reason = " ".join(str(problem).split()).rstrip(".")[:300]
        raise UserError(
            f"{directory.flags} can't be read ({reason}): mend it or leave this run out."
        ) from None


def _summary(directory: RunDirectory) -> dict:
    path = directory.summary
    try:
        content = json.loads(read_text(directory.path, path, MOST_TEXT))
    except (NotRead, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is damaged: delete it to see the run as unfinished, or leave this run out."
        )
    return content


def _metrics(directory: RunDirectory) -> tuple[list[dict[str, float]], list[str]]:
    """The rows, and notes on what is missing of them."""
    path, text, notes = directory.metrics, "", []
    if os.path.lexists(path):
        try:
            text = read_text(directory.path, path, MOST_TABLE)
        except NotRead as problem:
            notes.append(f"{path.name} {problem}, so it is left out.")
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        notes.append(f"{path.name} ends in the middle of a row, which is left out.")
        lines.pop()
    names = lines[0].split(",") if lines else []  # names and numbers only, never in quotes
    rows = [row for row in (_row(names, line) for line in lines[1:]) if row]
    if damaged := len(lines[1:]) - len(rows):
        notes.append(f"{path.name}: {damaged} damaged row(s) left out.")
    broken = [name for name in names if any(math.isnan(row.get(name, 0.0)) for row in rows)]
    if broken:
        shown = ", ".join(broken)[:200]
        notes.append(f"{path.name}: not finite, so left out of curves: {shown}.")
    if not rows:
        notes.append("no epoch has been written.")
    return thinned(rows, MOST_ROWS), notes


def _row(names: list[str], line: str) -> dict[str, float]:
    """The numbers of a row, nothing if it is damaged."""
    fields = line.split(",")
    try:
        row = {n: float(field) for n, field in zip(names, fields, strict=True) if field}
    except ValueError:
        return {}
    if not abs(row.get("step", math.nan)) <= LARGEST:
        return {}
    return {n: value if abs(value) <= LARGEST else math.nan for n, value in row.items()}


def _angles(directory: RunDirectory) -> tuple[list[dict], list[dict], list[str]]:
    """Records of every layer's angle, and of the mean, by step; and notes."""
    values, notes = read_scalars(directory.tensorboard, directory.path, "angle/")
    means = [{"step": k, "mean_angle": v} for k, v in sorted(values.pop("mean", {}).items())]
    values.pop("heat_map", None)
    for name in _joined(values):
        del values[name]
    angles = [
        {"step": step, "layer": layer, "angle": angle}
        for layer, by_step in values.items()
        for step, angle in sorted(by_step.items())
    ]
    angles, note = _bounded(angles, "angles")
    return angles, thinned(means, MOST_ROWS), notes + note


def _joined(values: dict[str, dict[int, float]]) -> list[str]:
    """The series that belong to no layer: means of layers whose paths end in the same name.

    `AlignmentMonitor` writes them for TensorBoard's sake, if no layer has this name as its path.
    """
    alike = defaultdict(list)
    for name, of_layer in values.items():
        if "/" in name:
            alike[name.rpartition("/")[2]].append(of_layer)
    return [
        last
        for last, parts in alike.items()
        if len(parts) > 1 and _is_mean(values.get(last), parts)
    ]


def _is_mean(found: dict[int, float] | None, parts: Sequence[dict[int, float]]) -> bool:
    """True for the mean at each step of those that are defined there."""
    if found is None:
        return False
    for step, value in found.items():
        defined = [part[step] for part in parts if not math.isnan(part.get(step, math.nan))]
        mean = sum(defined) / len(defined) if defined else math.nan
        undefined = math.isnan(value) and math.isnan(mean)
        if not undefined and not math.isclose(value, mean, rel_tol=1e-5):
            return False
    return True


def _error_angles(directory: RunDirectory) -> tuple[list[dict], list[str]]:
    path = directory.measures
    if not os.path.lexists(path):
        return [], []
    try:
        lines = read_text(directory.path, path, MOST_TABLE).splitlines(keepends=True)
        table = csv.DictReader(lines, strict=True)
        if not {"step", "layer"} <= set(table.fieldnames or ()):
            raise KeyError
        found = [
            {
                "step": int(row["step"]),
                "layer": row["layer"],
                "rule": row.get("rule") or "",
                "error_angle": float(row["error_angle"]),
            }
            for row in table
            if row.get("error_angle")
        ]
    except NotRead as problem:
        return [], [f"{path.name} {problem}, so that angles of errors are left out."]
    except (ValueError, TypeError, KeyError, csv.Error, OverflowError):
        return [], [f"{path.name} is damaged, so that angles of errors are left out."]
    return _bounded(found, "angles of errors")


def _bounded(records: list[dict], what: str) -> tuple[list[dict], list[str]]:
    """The records that a heat map can show, and a note if those are not all."""
    layers = list(dict.fromkeys(record["layer"] for record in records))
    steps = sorted({record["step"] for record in records if abs(record["step"]) <= LARGEST})
    kept, times = set(thinned(layers, MOST_LAYERS)), set(thinned(steps, MOST_TIMES))
    shown = [each for each in records if each["layer"] in kept and each["step"] in times]
    notes = []
    if len(kept) < len(layers):
        notes.append(f"{what}: {len(kept)} of {len(layers)} layers are shown.")
    return shown, notes


def judged(row: dict[str, float], name: str) -> float | None:
    """A number by which a run is judged after an epoch; `None` if it was not.

    Args:
        row: Of `metrics.csv`.
        name: "loss", "top1" or "top5".

    Returns:
        That of the test images, or of the validation images in a run that holds some out.
    """
    return row.get(f"test_{name}", row.get(f"validation_{name}"))


def thinned(items: Iterable, most: int) -> list:
    """Evenly chosen items, the first and the last among them.

    Args:
        items: What to choose from.
        most: How many to keep at most, 2 or more.

    Returns:
        All of them, if they are few enough.
    """
    items = list(items)
    if len(items) <= most:
        return items
    return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]
