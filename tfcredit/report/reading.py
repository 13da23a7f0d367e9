"""What run directories hold, as far as it can be read."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from tfcredit.errors import UserError
from tfcredit.records import read_csv
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run as its directory tells it.

    Args:
        name: Its path below the folder that all compared runs share.
        recipe: Its flags.
        state: "finished", "in progress", or "not finished" if no process trains it.
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
    """Read runs.

    Args:
        paths: Run directories, or folders with runs somewhere below.

    Returns:
        The runs in the order of `paths`, and by name within each, none of them twice.

    Raises:
        UserError: A path is no folder or holds no run, or a run's flags or summary are damaged.
    """
    folders: dict[pathlib.Path, None] = {}
    for path in map(pathlib.Path, paths):
        directory = RunDirectory(path)
        flags = [directory.flags] if directory.holds_run() else sorted(path.rglob("flags.txt"))
        if not flags:
            raise UserError(
                f"{path} holds no run (no flags.txt there or below): give the --run_dir of one, or "
                "a folder of such."
            )
        folders |= dict.fromkeys(file.parent.resolve() for file in flags)
    shared = os.path.commonpath([folder.parent for folder in folders])
    return [_read(RunDirectory(folder), os.path.relpath(folder, shared)) for folder in folders]


def _read(directory: RunDirectory, name: str) -> StoredRun:
    recipe = _recipe(directory)
    rows, notes = _metrics(directory.metrics)
    angles, means = _angles(directory.tensorboard)
    error_angles = []
    try:
        error_angles = _error_angles(directory.measures)
    except UserError:
        notes.append(
            f"{directory.measures.name} is damaged, so that angles of errors are left out."
        )
    if directory.summary.exists():
        state, summary = "finished", _summary(directory.summary)
    else:
        state = "in progress" if directory.is_locked() else "not finished"
        notes.insert(0, f"{state}: no {directory.summary.name}; the results are those so far.")
        last = {**(rows[-1] if rows else {}), **(means[-1] if means else {})}
        summary = {"step": last.get("step"), "mean_angle": last.get("mean_angle")}
        summary |= {"top1": last.get("test_top1"), "top5": last.get("test_top5")}
    return StoredRun(name, recipe, state, summary, rows, angles, means, error_angles, notes)


def _recipe(directory: RunDirectory) -> Recipe:
    try:
        return parse(directory.flags.read_text().splitlines())[0]
    except (OSError, UnicodeDecodeError, UserError) as problem:
        raise UserError(
            f"{directory.flags} can't be read ({str(problem).rstrip('.')}): mend it or leave this "
            "run out."
        ) from None


def _summary(path: pathlib.Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is damaged: delete it to see the run as unfinished, or leave this run out."
        )
    return content


def _metrics(path: pathlib.Path) -> tuple[list[dict[str, float]], list[str]]:
    """The rows, and notes on what is missing of them."""
    text = path.read_text(errors="replace") if path.exists() else ""
    lines, notes = text.splitlines(), []
    if lines and not text.endswith("\n"):
        notes.append(f"{path.name} ends in the middle of a row, which is left out.")
        lines.pop()
    names = lines[0].split(",") if lines else []  # names and numbers only, never in quotes
    rows = [row for row in (_row(names, line) for line in lines[1:]) if row]
    if damaged := len(lines[1:]) - len(rows):
        notes.append(f"{path.name}: {damaged} damaged row(s) left out.")
    broken = [name for name in names if any(math.isnan(row.get(name, 0.0)) for row in rows)]
    if broken:
        notes.append(f"{path.name}: not finite, so left out of curves: {', '.join(broken)}.")
    if not rows:
        notes.append("no epoch has been written.")
    return rows, notes


def _row(names: list[str], line: str) -> dict[str, float]:
    """The numbers of a row, nothing if it is damaged."""
    fields = line.split(",")
    try:
        row = {n: float(field) for n, field in zip(names, fields, strict=True) if field}
    except ValueError:
        return {}
    if not math.isfinite(row.get("step", math.nan)):
        return {}
    return {n: value if math.isfinite(value) else math.nan for n, value in row.items()}


def _angles(folder: pathlib.Path) -> tuple[list[dict], list[dict]]:
    """Records of every layer's angle, and of the mean, by step."""
    if not folder.is_dir():
        return [], []
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    values = {
        tag.removeprefix("angle/"): {
            event.step: float(tensor_util.make_ndarray(event.tensor_proto))
            for event in events.Tensors(tag)  # of a step that was taken again the last
        }
        for tag in events.Tags()["tensors"]
        if tag.startswith("angle/")
    }
    means = [{"step": k, "mean_angle": v} for k, v in sorted(values.pop("mean", {}).items())]
    angles = [
        {"step": step, "layer": layer, "angle": angle}
        for layer, by_step in values.items()
        for step, angle in sorted(by_step.items())
    ]
    return angles, means


def _error_angles(path: pathlib.Path) -> list[dict]:
    records = read_csv(path) if path.exists() else []
    return [record for record in records if {"step", "layer", "error_angle"} <= set(record)]
