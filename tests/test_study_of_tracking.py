"""The study of tracking rules: gaps are paired, means are over complete networks."""

import pytest

from studies import tracking, tracking_angle
from studies.table import as_text


def row(network, rule, seed, top1, rate=1.0, angle="3.0", finite="True"):
    names = {"network": network, "rule": rule, "rate": str(rate), "seed": str(seed)}
    return names | {"steps": "9", "top1": str(top1), "mean_angle": angle, "finite": finite}


def rows_of(seed, gap, networks=tracking.NETWORKS):
    return [
        row(network, rule, seed, top1)
        for network in networks
        for rule, top1 in (("backprop", 0.8), ("tracking_mirror", 0.8 - gap))
    ]


def test_gaps_are_those_of_the_same_network_rate_and_seed():
    rows = [
        row("fc", "backprop", 0, 0.8),
        row("fc", "backprop", 1, 0.9),
        row("fc", "backprop", 0, 0.1, rate=2.0),
        row("fc", "tracking_mirror", 1, 0.85),
        row("fc", "tracking_mirror", 0, 0.79),
        row("fc", "tracking_mirror", 5, 0.1),  # backprop lacks this seed
    ]
    assert tracking.gaps(rows, rule="tracking_mirror") == pytest.approx([5.0, 1.0])


def test_the_mean_over_networks_takes_seeds_that_have_all():
    rows = rows_of(0, 0.01) + rows_of(1, 0.02) + rows_of(2, 0.5, ["fc"])
    found = tracking.over_networks(rows, "tracking_mirror", 1.0)
    assert found.n == 2 and found.mean == pytest.approx(1.5)


def test_the_table_tells_gaps_angles_and_divergence():
    rows = [*rows_of(0, 0.01, ["fc"]), row("fc", "tracking_mirror", 1, 0.1, finite="False")]
    table = tracking.table([*rows, row("fc", "frozen", 0, 0.5, angle="")])
    assert "| fc | 1.0 | 80.0 | 30.0 | 1.0, 3.0°, 1 of 2 diverged | - | - |" in table
    assert "resnet56" not in table


def test_every_network_is_made_with_every_rule():
    for network in ("fc_tanh", "vit", "resnet8, noisy updates"):
        model = tracking.make(network, "tracking_mirror", 1.0, seed=0, steps=40)
        assert model.compiled and model.output_shape == (None, 10)


@pytest.mark.slow
def test_angles_are_measured_beside_the_predicted_ones(monkeypatch):
    monkeypatch.setattr(tracking_angle, "STEPS", [1, 2])
    rows = [as_text(row) for row in tracking_angle.measure({"network": "fc", "seed": 0})]
    assert [row["step"] for row in rows] == ["1"] * 4 + ["2"] * 4
    for row in rows:
        assert 0.8 < float(row["measured"]) / float(row["predicted"]) < 1.25
    assert "| `fc` | 2 | 4 |" in tracking_angle.table(rows)
