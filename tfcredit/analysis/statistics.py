"""Confidence intervals of means."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcredit.errors import UserError


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, as `interval` gives them.

    Attributes:
        mean: The mean; NaN of no values.
        low: The lower end; NaN of less than two values.
        high: The upper end.
        n: The number of values.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "-"
        if np.isnan(self.low):
            return f"{self.mean:z.1f}"
        return f"{self.mean:z.1f} [{self.low:z.1f}, {self.high:z.1f}]"


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % confidence interval of a few independent values (Student's t).

    Args:
        values: Numbers, such as one per seed.

    Returns:
        Both.

    Example:
        >>> print(interval([80.2, 80.9, 81.1]))
        80.7 [79.6, 81.9]
    """
    from scipy import stats  # imports slowly, and is needed here only

    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"), len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, len(values))


def bootstrap_mean(
    values: Any, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Mean and its bootstrap confidence interval (bias-corrected and accelerated, of SciPy).

    Args:
        values: Numbers, such as one per seed or sample; NaN are left out. Intervals of less than
            some ten are too narrow: use `interval` for those.
        confidence: Level of the interval, in (0, 1).
        resamples: Number of samples that are drawn.
        seed: Seed of the draws.

    Returns:
        `mean`, `low`, `high` and `n`, the number of values that counted. NaN for the ends if it is
        less than 2, for the mean too if it is 0.

    Raises:
        UserError: A level outside of (0, 1).

    Example:
        >>> found = bootstrap_mean([80.2, 80.9, 81.1, float("nan")])
        >>> found["n"], round(found["mean"], 2), found["low"] < found["mean"] < found["high"]
        (3, 80.73, True)
    """
    from scipy import stats  # imports slowly, and is needed here only

    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence!r} is no level in (0, 1): give one such as 0.95.")
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        low = high = float("nan")
    elif np.ptp(values) == 0:  # SciPy's method divides by the spread
        low = high = mean
    else:
        low, high = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=confidence,
            n_resamples=resamples,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return {"mean": mean, "low": float(low), "high": float(high), "n": len(values)}
