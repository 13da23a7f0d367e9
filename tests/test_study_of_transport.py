"""The study of the transport budget: bits by hand, a table, a figure."""

import pytest

from studies import transport_budget as study
from studies.table import as_text
from tfcredit import models, rules


def network(rule):
    return models.get("fc", 10, (28, 28, 1), rule, seed=0, widths=16, depth=1)


@pytest.mark.parametrize(
    ("rule", "bits"),
    [
        ("frozen_backprop(every=10)", 32 * 3),
        ("frozen_backprop(every=10, fraction=0.5)", 32 * 2),
        ("symmetric_alignment", 32 * 21),
        ("sign_symmetry", 21),
        ("feedback_alignment", 0),
    ],
)
def test_bits_of_what_is_copied(rule, bits):
    assert study.bits_per_weight(network(rule), 21) == pytest.approx(bits)


def test_bits_of_an_estimate_are_those_of_its_responses():
    rule = rules.get("calibrated_activation")
    samples = [rule.samples(784, 16), rule.samples(16, 10)]
    # A number for each response of each sample, over all weights.
    numbers = 7 * (samples[0] * 16 + samples[1] * 10)
    expected = 32 * numbers / (784 * 16 + 16 * 10)
    assert study.bits_per_weight(network(rule), 7) == pytest.approx(expected)


@pytest.mark.slow
def test_a_row_a_table_and_a_figure(tmp_path):
    rows = []
    for rule in ("backprop", "frozen_backprop(every=3)", "tracking_mirror", "frozen"):
        case = {"network": "conv", "rule": rule, "seed": 0, "steps": 4}
        rows += map(as_text, study.measure(case))
    told = study.table(rows)
    assert "| conv | `frozen_backprop(every=3)` | 2 | 64 |" in told
    assert "| conv | `frozen` | - | - |" in told
    assert float(rows[2]["bits"]) > 0 and "| conv | `tracking_mirror` | 0 |" in told
    flags = study.STUDY.parse([f"--figure={tmp_path / 'figure.svg'}"])
    study.finish(flags, rows)
    first = (tmp_path / "figure.svg").read_bytes()
    study.finish(flags, rows)
    assert b"svg" in first and (tmp_path / "figure.svg").read_bytes() == first


def test_kernels_of_the_alignment_have_their_own_optimizer():
    model = study.make("conv", "symmetric_alignment", 0, 40)
    assert type(model.optimizer).__name__ == "PartitionedOptimizer"
    assert float(model.optimizer.feedback.learning_rate) == 1.0
    assert set(study.RULES[1:]) == {*study.BUDGETS, *study.PARTS, *study.OTHERS}
    assert all(rules.get(rule) for rule in study.RULES)
