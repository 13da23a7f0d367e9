"""The timing protocol: competitors take turns, and only times of one round are compared."""

import os
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any


def clocked(function: Callable, *arguments: Any) -> Callable[[], tuple[float, float]]:
    """A competitor for `interleave`: a call that gives the wall-clock and the CPU seconds it took.

    Args:
        function: What is timed.
        *arguments: Its arguments.
    """

    def run() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        function(*arguments)
        return time.perf_counter() - wall, time.process_time() - cpu

    return run


def timed(function: Callable, *arguments: Any) -> Callable[[], float]:
    """Likewise, in wall-clock seconds alone."""
    run = clocked(function, *arguments)
    return lambda: run()[0]


def interleave(runs: Mapping[Hashable, Callable[[], Any]], rounds: int) -> dict[Any, list]:
    """Times competitors in turn, so that other load meets all alike.

    Args:
        runs: Name -> a call that gives the seconds that it took. Each is called twice before,
            uncounted. Each round has an order of its own, as what ran before leaves its mark on
            caches and on the memory that the allocator holds.
        rounds: How often each has its turn.

    Returns:
        Name -> what the calls of each round gave, and under "load" the machine's load average at
        its end.
    """
    names, shuffled = list(runs), random.Random(0)
    for name in 2 * names:
        runs[name]()
    seconds = {name: [] for name in [*names, "load"]}
    for _ in range(rounds):
        for name in shuffled.sample(names, len(names)):
            seconds[name].append(runs[name]())
        seconds["load"].append(os.getloadavg()[0])
    return seconds


def median_ratios(
    runs: Mapping[str, Callable[[], float]], baseline: str, rounds: int = 9
) -> dict[str, float]:
    """Times competitors in turn and compares each with one of them.

    Args:
        runs: As `interleave` takes them.
        baseline: The name that all are compared with.
        rounds: How often each has its turn.

    Returns:
        Name -> median over the rounds of its seconds over the baseline's.
    """
    seconds = interleave(runs, rounds)
    return {name: summary(seconds[name], seconds[baseline])["ratio"] for name in runs}


def summary(seconds: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the seconds, and of their ratios to the baseline's, per round."""
    ratios = [a / b for a, b in zip(seconds, baseline, strict=True)]
    low, middle, high = quartiles(ratios)
    fastest, median, slowest = quartiles(seconds)
    return {
        "seconds": median,
        "seconds_low": fastest,
        "seconds_high": slowest,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
    }


def summary_of_both(
    seconds: Sequence[tuple[float, float]], baseline: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """`summary` of the wall clock, and under `cpu_ratio` and its like the ratios of CPU time.

    Args:
        seconds: Wall-clock and CPU seconds of each round, as `clocked` gives them.
        baseline: Likewise, of the baseline.
    """
    pairs = (zip(*each, strict=True) for each in (seconds, baseline))
    wall, cpu = (summary(*pair) for pair in zip(*pairs, strict=True))
    return wall | {f"cpu_{key}": value for key, value in cpu.items() if key.startswith("ratio")}


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return 3 * list(values)
    return statistics.quantiles(values, n=4, method="inclusive")
