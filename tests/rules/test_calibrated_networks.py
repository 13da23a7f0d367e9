"""The calibrated rules' promises on whole networks; what `studies/calibrated.py` tabulates."""

import pytest

from studies import calibrated as study
from tfcredit import rules


@pytest.mark.slow
@pytest.mark.parametrize("angle", [3.0, 5.0, 10.0, 20.0])
@pytest.mark.parametrize("network", ["fc", "conv", "resnet8", "resnet20"])
def test_the_mirror_settles_within_the_angle_asked_for(network, angle):
    """Below it where a layer draws more noise than the angle needs, to tell its lag.

    The fan_in (fan_in - 1) / 2 independent errors of an estimate let the angle of one instant vary
    by a share 1 / fan_in of itself, which is much in a first layer of 9 weights only.
    """
    model, results = study.run(network, rules.CalibratedMirror(angle=angle), 0, 500, 1e-6)
    assert results["finite"]
    for layer, ratio in study.reached(model, angle):
        fan_in = layer.connection.axes(layer.kernel.shape).fan_in
        assert ratio < 1.15 + 3 / fan_in, layer.name


@pytest.mark.slow
@pytest.mark.parametrize("network", ["fc", "conv", "resnet8", "resnet20"])
def test_calibrated_activation_ends_below_two_degrees(network):
    row = study.train(network, rules.CalibratedActivation(), 0, 500, 1e-5)
    assert row["finite"] and row["mean_angle"] < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("network", ["fc", "conv", "resnet8", "resnet20"])
def test_calibrated_rules_are_at_least_as_accurate(network):
    calibrated = [rules.CalibratedMirror(), rules.CalibratedActivation()]
    others = [rules.InformationAlignment(), rules.WeightMirror()]
    top1 = {r.name: study.train(network, r, 0, 500, 1e-3)["top1"] for r in (*calibrated, *others)}
    worst = min(top1[rule.name] for rule in calibrated)
    assert worst >= max(top1[rule.name] for rule in others)
