"""The study of thin feedback: what is kept, and a table of measured rows."""

import pytest

from studies import thin_feedback as study
from studies.table import as_text


def test_rows_and_table(monkeypatch):
    make, _ = study.NETWORKS["dense 1024"]
    monkeypatch.setattr(study, "NETWORKS", {"dense 1024": (make, (2, 1024))})
    rules = ["backprop", "feedback_alignment", "low_dimensional_feedback(rank=10)"]
    monkeypatch.setattr(study, "RULES", rules)
    rows = [as_text(row) for row in study.measure({"network": "dense 1024", "rounds": 1})]
    weights = 3 * 1024 * 1024
    assert [row["kept"] for row in rows] == ["0", str(weights), str(3 * 10 * 2048)]
    for name in ("wall_ratio", "cpu_ratio"):
        assert rows[0][name] == "1.0" and all(float(row[name]) > 0 for row in rows)
    last = study.table(rows).splitlines()[-1]
    assert last.startswith("| `low_dimensional_feedback(rank=10)` |") and last.endswith(", 0.02 |")


@pytest.mark.slow
def test_accuracy():
    rows = []
    for rule in ("backprop", "low_dimensional_feedback(rank=10)"):
        case = {"network": "fc", "rule": rule, "seed": 0, "steps": 4}
        rows += map(as_text, study.measure(case))
    first, last = study.accuracy(rows).splitlines()[-2:]
    assert first.startswith("| `fc` | `backprop` |") and first.endswith("| - | 0 of 1 |")
    assert float(last.split("|")[-3].split(" +- ")[0]) > 30
