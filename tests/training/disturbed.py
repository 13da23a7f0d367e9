"""Runs that are killed, or whose disk is full, at a chosen change of a file; and comparing runs."""

import csv
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILER = shutil.which("cc")
SMALL = ["--model=fc", "--batch_size=2000", "--epochs=2", "--checkpoint_every_steps=2"]
SMALL += ["--learning_rate=0.01", "--deterministic", "--resume=auto"]
CASES = {
    "one_device": ["--histograms"],
    "two_replicas": ["--strategy=mirrored", "--num_replicas=2"],
    "measures": ["--rule=kolen_pollack", "--measures", "--measure_every_steps=3"],
    "accumulation": ["--accumulation_steps=2"],
    "float16": ["--precision=float16", "--noise=normal", "--noise_variance=1e-6"],
    "phases": ["--rule=weight_mirror", "--alternate_steps=2", "--delay_epochs=0.3"],
    "executions": ["--steps_per_execution=3", "--alignment_every=2", "--accumulation_steps=2"],
    "two_with_all": [
        *("--strategy=mirrored", "--num_replicas=2", "--accumulation_steps=2"),
        *("--measures", "--measure_every_steps=2", "--steps_per_execution=2"),
    ],
    "averages": [
        *("--ema_momentum=0.9", "--weight_decay=0.1", "--log_every_steps=1", "--evaluate_first"),
        *("--coefficient_schedules=amp:stop=0.5", "--validation_examples=2000"),
        *("--learning_rate=1e-9", "--early_stopping=1", "--epochs=4", "--steps_per_execution=2"),
    ],
    "conv": ["--model=conv", "--rule=weight_mirror", "--batch_size=100", "--epochs=0.04"],
}
TIMED = ("images_per_second", "seconds", "git_revision")
"""What two runs need not have in common."""


def shim(folder: pathlib.Path) -> pathlib.Path:
    """The library that counts changes of files, made in a folder."""
    library = folder / "file_operations.so"
    source = pathlib.Path(__file__).with_name("file_operations.c")
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def run(folder, case, library=None, at=0, action="kill", log=None):
    """Start the run of a case and wait for its end; the process and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if library is not None:
        environment |= {"LD_PRELOAD": str(library), "FILES_UNDER": str(folder)}
        environment |= {"FILES_AT": str(at), "FILES_ACTION": action}
        environment |= {} if log is None else {"FILES_LOG": str(log)}
    program = [sys.executable, str(ROOT / "run_imagenet.py"), *SMALL, *CASES[case]]
    return subprocess.run(
        [*program, f"--run_dir={folder}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def phases(log: pathlib.Path) -> list[tuple[int, str]]:
    """The number and the name of each operation that is not one more of the same on the same."""
    found, before = [], None
    for number, line in enumerate(log.read_text().splitlines(), start=1):
        if line != before:
            found.append((number, line))
        before = line
    return found


def spread(operations: list, count: int, draw: random.Random) -> list:
    """So many of them, each out of a stretch of its own."""
    ends = np.linspace(0, len(operations), count + 1).astype(int)
    chosen = [draw.randrange(a, max(a + 1, b)) for a, b in zip(ends, ends[1:], strict=False)]
    return [operations[min(place, len(operations) - 1)] for place in chosen]


def checkpoint(folder: pathlib.Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def table(path: pathlib.Path) -> list[dict[str, str]] | None:
    if not path.exists():
        return None
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def series(folder: pathlib.Path) -> dict[str, list]:
    """Tag -> its steps and values, all that TensorBoard shows."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def left(folder: pathlib.Path) -> set[str]:
    """All files but those of events."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in names if ".tfevents." not in name}


def contents(folder: pathlib.Path) -> dict:
    """What two runs must have in common."""
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "summary": {key: value for key, value in summary.items() if key not in TIMED},
        "metrics": table(folder / "metrics.csv"),
        "measures": table(folder / "measures.csv"),
        "steps": table(folder / "steps.csv"),
        "newest": checkpoint(folder / "checkpoints"),
        "best": checkpoint(folder / "checkpoints" / "best"),
        "series": series(folder / "tensorboard"),
        "files": left(folder),
    }


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def differences(found: dict, expected: dict) -> list[str]:
    """What one run has otherwise than another, as lines."""
    said = [
        f"{name}: {found[name]} instead of {expected[name]}"
        for name in ("summary", "metrics", "measures", "files")
        if found[name] != expected[name]
    ]
    for name in ("newest", "best"):
        if set(found[name]) != set(expected[name]):
            said.append(f"{name}: other variables")
        for key, value in expected[name].items():
            if key in found[name] and not np.array_equal(found[name][key], value, equal_nan=True):
                said.append(f"{name}: {key}")
    timed = {tag for tag in expected["series"] if tag.endswith(("heat_map", *TIMED))}
    if set(found["series"]) != set(expected["series"]):
        said.append(f"series: other tags {set(found['series']) ^ set(expected['series'])}")
    for tag, points in expected["series"].items():
        mine = found["series"].get(tag, [])
        steps = [step for step, _ in mine]
        if len(set(steps)) < len(steps) or steps != sorted(steps):
            said.append(f"series: {tag} at the steps {steps}")
        if tag.endswith("heat_map"):  # drawn as often as there is time, and at the end
            if steps[-1:] != [points[-1][0]]:
                said.append(f"series: {tag} ends with {steps}")
        elif steps != [step for step, _ in points]:
            said.append(f"series: {tag} at {steps}, not at {[step for step, _ in points]}")
        elif tag not in timed and not tag.startswith("_hparams_"):
            pairs = zip(mine, points, strict=True)
            if not all(
                np.array_equal(a[1], b[1], equal_nan=a[1].dtype.kind == "f") for a, b in pairs
            ):
                said.append(f"series: values of {tag}")
    return said
