"""The studies of other libraries' networks, of other architectures and of sequences, in small."""

import importlib.util

import pytest

from studies import architectures, libraries, sequences
from studies.backbones import BACKBONES, LEFT_OUT
from studies.table import as_text
from tests.crossing import crossed
from tfcredit.errors import UserError

QUICK = ["MobileNetV2"]


def examined(library, name, names, files=True):
    row = libraries.examine(library, name, names, files)
    assert row["difference"] == row["difference_back"] == row["difference_loaded"] == 0.0
    assert row["converted"] > 0
    return row


@pytest.mark.parametrize(
    "name",
    crossed(libraries.FAMILIES, quick=QUICK.__contains__),
)
def test_a_family_converts_trains_and_comes_back(name):
    quick = name in QUICK
    names = ["info_alignment"] if quick else libraries.RULES["applications"]
    assert examined("applications", name, names, files=not quick)["left"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of keras-hub
@pytest.mark.skipif(importlib.util.find_spec("keras_hub") is None, reason="needs keras-hub")
class TestBackbones:
    """Those of keras-hub: pip install '.[hub]'."""

    @pytest.mark.parametrize("name", BACKBONES)
    def test_a_backbone_converts_trains_and_comes_back(self, name):
        examined("hub", name, libraries.RULES["hub"])

    def test_none_is_left_out(self):
        import keras_hub

        found = [getattr(keras_hub.models, name) for name in dir(keras_hub.models)]
        kind = keras_hub.models.Backbone
        found = [each for each in found if isinstance(each, type) and issubclass(each, kind)]
        others = {"Backbone", "FeaturePyramidBackbone", *LEFT_OUT}
        assert {each.__name__ for each in found} - others == set(BACKBONES)


def test_rows_of_a_network_are_joined_and_its_rules_stepped_once():
    first = {"library": "hub", "network": "BertBackbone", "converted": 4, "left": 0}
    first |= {"difference": 0.0, "difference_back": 0.5, "difference_loaded": 0.0}
    first |= {"rules": "info_alignment", "seconds": 3, "note": ""}
    other = first | {"difference_back": 0.25, "rules": "frozen sign_symmetry"}
    problem = UserError("its config lacks something.")
    rows = [first, other, libraries.refused("hub", "ViTBackbone", problem)]
    rows = [as_text(row) for row in rows]
    assert "| BertBackbone | 4 | 0 | 0.0 | 0.5 | 0.0 | 3 |" in libraries.table("hub", rows)
    flags = libraries.STUDY.parse(["--libraries", "applications", "--rules", "frozen"])
    assert {case["rules"] for case in libraries.cases(flags, rows)} == {"frozen"}


def test_keras_hub_is_asked_for(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    flags = libraries.STUDY.parse(["--libraries", "hub"])
    with pytest.raises(UserError, match=r"keras-hub is not installed: pip install '.\[hub\]'"):
        list(libraries.cases(flags, []))


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
