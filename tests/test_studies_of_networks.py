"""The studies of `keras.applications` and of other architectures, in small."""

import pytest

from studies import applications, architectures, sequences
from tests.crossing import crossed

QUICK = ["MobileNetV2"]


@pytest.mark.parametrize(
    "name",
    crossed(applications.FAMILIES, quick=QUICK.__contains__),
)
def test_a_family_converts_trains_and_comes_back(name):
    names = ["info_alignment"] if name in QUICK else applications.RULES
    row = applications.examine(name, names)
    assert row["difference"] == row["difference_back"] == 0.0
    assert row["left"] == 0 < row["converted"]


@pytest.mark.slow
@pytest.mark.parametrize("network", architectures.NETWORKS)
def test_other_architectures_step(network):
    row = architectures.train(network, "info_alignment", seed=0, epochs=1, examples=128)
    assert 60.0 < row["mean_angle"] < 95.0  # as drawn


@pytest.mark.slow
@pytest.mark.parametrize("network", architectures.NETWORKS)
def test_other_architectures_align(network):
    row = architectures.train(network, "info_alignment", seed=0, epochs=10)
    assert row["mean_angle"] < 60.0 and row["top1"] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("layer", sequences.LAYERS)
def test_sums_of_sequences_are_learned(layer):
    row = sequences.train(layer, "tracking_mirror", seed=0, steps=1500)
    assert row["error"] < 0.01 and row["angle"] < 2 and row["recurrent_angle"] < 5
