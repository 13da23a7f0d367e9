"""Bootstrap intervals and tables."""

import csv

import numpy as np
import pytest

from tfcredit import analysis
from tfcredit.errors import UserError


def test_the_interval_is_that_of_normal_theory():
    values = np.random.RandomState(0).normal(3.0, 2.0, 400)
    found = analysis.bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert found["mean"] == pytest.approx(values.mean()) and found["n"] == 400
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.1 * half)
    narrow = analysis.bootstrap_mean(values, confidence=0.5)
    assert narrow["high"] - narrow["low"] < 0.5 * (found["high"] - found["low"])
    assert analysis.bootstrap_mean(values) == found
    assert analysis.bootstrap_mean(values, seed=1) != found


@pytest.mark.parametrize(
    ("values", "mean", "low", "n"),
    [
        ([np.nan, 2.0, 2.0], 2.0, 2.0, 2),
        ([5.0], 5.0, np.nan, 1),
        ([np.nan], np.nan, np.nan, 0),
        ([], np.nan, np.nan, 0),
    ],
)
def test_few_and_missing_values(values, mean, low, n):
    found = analysis.bootstrap_mean(values)
    expected = {"mean": mean, "low": low, "high": low, "n": n}
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_level_that_is_none():
    with pytest.raises(UserError, match="confidence 95 is no level"):
        analysis.bootstrap_mean([1.0, 2.0], confidence=95)


def test_records_as_a_table(tmp_path):
    records = [{"step": 1, "layer": "a", "angle": 2.5}, {"step": 1, "layer": "b, c", "rank": 3.0}]
    analysis.write_csv(records, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"step": "1", "layer": "a", "angle": "2.5", "rank": ""}
    assert rows[1] == {"step": "1", "layer": "b, c", "angle": "", "rank": "3.0"}
