"""Where the time of a whole run goes, from the start of the process to its end.

    python -m benchmarks.whole_run [--rounds=3] [--epochs=1] [--FLAG=VALUE ...]

Runs `tfcredit train` with the flags of `make demo`, and with those that are given, each time in a
process and a folder of its own. Prints the median of the rounds, in seconds of the clock, for each
part of the run. A part that runs within another one is not counted there.
"""

import argparse
import contextlib
import functools
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FLAGS = ["--flagfile=configs/demo.cfg"]
IMPORT, FIRST, STEPS, REST = "imports", "first training step", "training steps", "the rest"
PARTS = {
    "images, network, optimizer": ["training.plan:Plan.of", "training.run:Run._build"],
    STEPS: ["training.trainer:Trainer.run"],
    "evaluation": ["training.loop:evaluate"],
    "checkpoints": [
        "training.checkpoints:Checkpoints.save",
        "training.checkpoints:Checkpoints.save_best",
    ],
    "angles and TensorBoard's curves": [
        "callbacks.alignment:AlignmentMonitor.on_train_begin",
        "callbacks.alignment:AlignmentMonitor.on_epoch_end",
        "callbacks.table:EpochTable.on_epoch_end",
    ],
    "measures": [
        "callbacks.measures:MeasureMonitor.on_train_begin",
        "callbacks.measures:MeasureMonitor.on_train_batch_end",
        "callbacks.measures:MeasureMonitor.on_train_end",
    ],
    "saved network and summary": ["training.run:Run._finish"],
}
"""Part of a run -> functions of the package that are that part and nothing else."""


def find(place: str) -> tuple[Any, str]:
    """The module or class that has a function, and the function's name in it.

    Args:
        place: `module:name` or `module:Class.name`, of the package.

    Returns:
        Both.
    """
    module, path = place.split(":")
    owner: Any = importlib.import_module(f"tfcredit.{module}")
    *outer, last = path.split(".")
    return functools.reduce(getattr, outer, owner), last


class Watch:
    """Seconds of nested parts, each without those inside it."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = time.perf_counter()

    def _charge(self) -> None:
        now = time.perf_counter()
        part = self._open[-1] if self._open else REST
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    @contextlib.contextmanager
    def part(self, name: str):
        """Counts what runs within as this part."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def watch(self, name: str, place: str) -> None:
        """Lets all calls of a function, `module:name` of the package, count as a part."""
        owner, last = find(place)
        kept = owner.__dict__[last]
        function = kept.__func__ if isinstance(kept, classmethod) else kept

        @functools.wraps(function)
        def watched(*args, **options):
            first = name == STEPS and FIRST not in self.seconds
            with self.part(FIRST if first else name):
                return function(*args, **options)

        setattr(owner, last, classmethod(watched) if isinstance(kept, classmethod) else watched)


def child(arguments: Sequence[str]) -> None:
    """Runs the command in this process; prints the seconds of its parts as the last line."""
    watch = Watch()
    with watch.part(IMPORT):
        from tfcredit.cli import train_main

        importlib.import_module("tfcredit.training.run")
        for name, places in PARTS.items():
            for place in places:
                watch.watch(name, place)
    with watch.part(REST):
        code = train_main(list(arguments))
    print(json.dumps(watch.seconds))
    sys.exit(code)


def once(flags: Sequence[str]) -> dict[str, float]:
    """Seconds of each part of one run.

    Args:
        flags: Of `tfcredit train`, without its folder.

    Returns:
        Part -> seconds; what the process took beside them is part of "the rest".
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.whole_run", "--child", *flags]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, f"--run_dir={Path(folder) / 'run'}"], stdout=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stdout)
    parts = json.loads(done.stdout.splitlines()[-1])
    parts[REST] = parts.get(REST, 0.0) + seconds - sum(parts.values())
    return parts


def table(runs: Sequence[dict[str, float]]) -> str:
    """Medians of the rounds and their shares, as Markdown."""
    from tfcredit.records import markdown

    whole = statistics.median(sum(run.values()) for run in runs)
    rows = []
    for name in (IMPORT, *PARTS, FIRST, REST):
        seconds = statistics.median(run.get(name, 0.0) for run in runs)
        rows.append([name, f"{seconds:.1f}", f"{seconds / whole:.0%}"])
    return markdown(["part", "s", "of the run"], [*rows, ["whole run", f"{whole:.1f}", ""]])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.whole_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    own, flags = parser.parse_known_args()
    if own.child:
        child([*FLAGS, *flags])
    print(table([once(flags) for _ in range(own.rounds)]))
    print(f"\n{own.rounds} rounds, {os.cpu_count()} x {platform.machine()}")


if __name__ == "__main__":
    main()
