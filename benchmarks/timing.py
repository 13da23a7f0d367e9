"""The timing protocol: competitors take turns, and only times of one round are compared."""

import os
import random
import statistics
from collections.abc import Callable, Mapping, Sequence


def interleave(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Times competitors in turn, so that other load meets all alike.

    Args:
        runs: Name -> a call that gives the seconds that it took. Each is called twice before,
            uncounted. Each round has an order of its own, as what ran before leaves its mark on
            caches and on the memory that the allocator holds.
        rounds: How often each has its turn.

    Returns:
        Name -> seconds of each round, and under "load" the machine's load average at its end.
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


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return 3 * list(values)
    return statistics.quantiles(values, n=4, method="inclusive")
