"""What it saves that commands keep freed memory: time, page faults and peak memory.

    python -m benchmarks.kept_memory [--rounds=3]

Takes training steps, and prepares images by the input pipeline, in processes of their own that take
turns: one kind leaves the GNU C library as it is, the other calls `startup.keep_memory`. Prints the
medians of the rounds as a table in Markdown, and each measurement as it is made. Faults are those
of pages.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import ROOT
from tfcredit.environment import environment
from tfcredit.records import markdown

AS_IT_IS = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}
"""An option at its default: `keep_memory` changes nothing where the user states any."""
KINDS = {"as it is": AS_IT_IS, "kept": {}}
STEPS, IMAGES = 8, 2048
UNITS = {
    "wall": "clock, s",
    "processor": "processor, s",
    "faults": "page faults",
    "peak": "peak, MB",
}


def steps(rule: str) -> tuple[Callable[[], None], int]:
    """Steps of ResNet-18 at 224 pixels, batch 16, and their number."""
    from benchmarks.cases import Case, Training

    training = Training(Case("resnet18@224", 16, rule))
    training.run(2)
    return lambda: training.run(STEPS), STEPS


def images(folder: str) -> tuple[Callable[[], None], int]:
    """Batches of 64 training images of shards, and the number of images."""
    from benchmarks.input_pipeline import BATCH, write_shards
    from tfcredit.data import imagenet

    write_shards(Path(folder))
    batches = iter(imagenet.build(folder, shuffle_buffer=256).train(BATCH, 0, 0).repeat())
    next(batches)

    def read() -> None:
        for _ in range(IMAGES // BATCH):
            next(batches)

    return read, IMAGES


CASES = {
    "step, plain Keras": lambda folder: steps("plain Keras"),
    "step, `info_alignment`": lambda folder: steps("info_alignment"),
    "image from shards": images,
}


def child(name: str) -> None:
    """Measures a case in this process; prints each of `UNITS`, per step or image."""
    with tempfile.TemporaryDirectory() as folder:
        run, count = CASES[name](folder)
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        run()
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = after.ru_minflt - before.ru_minflt
    found = {"wall": wall / count, "processor": spent / count, "faults": faults / count}
    print(json.dumps(found | {"peak": after.ru_maxrss / 1024}))


def once(name: str, kind: str) -> dict[str, float]:
    """A case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.kept_memory", "--child", name]
    stated = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    stated.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        command, cwd=ROOT, env=stated | KINDS[kind], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kept_memory", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    lines = []
    for name in CASES:
        found = {kind: [] for kind in KINDS}
        for number in range(arguments.rounds):
            for kind, rows in found.items():
                rows.append(once(name, kind))
                text = f"{name}, {kind}, round {number + 1}: {rows[-1]}"
                print(text, file=sys.stderr, flush=True)
        for kind, rows in found.items():
            medians = {unit: statistics.median(row[unit] for row in rows) for unit in UNITS}
            ratios = [
                row["processor"] / base["processor"]
                for row, base in zip(rows, found["as it is"], strict=True)
            ]
            times = [f"{medians[unit]:.4g}" for unit in ("wall", "processor")]
            cells = [*times, *(f"{medians[unit]:.0f}" for unit in ("faults", "peak"))]
            lines.append([name, kind, *cells, f"{statistics.median(ratios):.3f}"])
    print(markdown(["", "freed memory", *UNITS.values(), "processor time, ratio"], lines))
    print(f"\n{environment()}")


if __name__ == "__main__":
    main()
