"""The one pattern language for names of layers."""

import keras
import pytest

from tfcredit import convert, models
from tfcredit.errors import UserError
from tfcredit.patterns import LayerPatterns, accept_wildcards, from_wildcards

PATHS = ("encoder/dense", "encoder/dense_1", "encoder/conv", "top")


def plain() -> keras.Model:
    encoder = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, name="dense"),
            keras.layers.Dense(3, name="dense_1"),
        ],
        name="encoder",
    )
    return keras.Sequential([keras.Input((4,)), encoder, keras.layers.Dense(2, name="top")])


def test_the_first_pattern_that_fits_the_whole_name_or_path_counts():
    patterns = LayerPatterns({"dense": 1, "encoder/.*": 2, ".*": 3})
    found = [patterns.first(path, path.rpartition("/")[2]) for path in PATHS]
    assert found == [1, 2, 2, 3]
    assert LayerPatterns({"den": 1}).first("dense", default=4) == 4


def test_slips_are_told_in_one_sentence():
    with pytest.raises(UserError, match=r"pattern 'tp' fits no layer .* 'dense' or 'top'\.$"):
        LayerPatterns({"tp": 1}).check([("dense",), ("top",)])
    with pytest.raises(UserError, match=r"pattern 'conv\(' is no regular expression"):
        LayerPatterns({"conv(": 1})


@pytest.mark.parametrize(
    ("wildcards", "expression"),
    [
        ("*", ".*"),
        ("encoder/*", "encoder/.*"),
        ("dense_?", "dense_."),
        ("*/dense*", ".*/dense.*"),
        ("[!t]*", "[^t].*"),
        ("dense.1*", r"dense\.1.*"),
    ],
)
def test_wildcards_are_written_as_regular_expressions(wildcards, expression):
    assert from_wildcards(wildcards) == expression


@pytest.mark.parametrize("wildcards", ["*", "?op", "encoder/*", "dense_*", "dense?", "block1*"])
def test_wildcards_are_taken_with_a_warning(wildcards):
    with pytest.warns(FutureWarning, match="write the regular expression '"):
        assert accept_wildcards({wildcards: 1}) == {from_wildcards(wildcards): 1}


@pytest.mark.parametrize(
    "expression", [".*", "dense_.?", r"conv\d*", "(a|b)*", "[ab]*", "top", "a+?", "(?:a|b)"]
)
def test_regular_expressions_are_left_alone(expression):
    assert accept_wildcards({expression: 1}) == {expression: 1}


def test_both_spellings_choose_the_same_layers():
    def chosen(layers):
        report = convert.report(convert.to_feedback(plain(), "usf", layers=layers))
        return {row["layer"] for row in report if row["rule"] != "backprop"}

    with pytest.warns(FutureWarning, match=r"'encoder/\.\*'") as warned:
        found = chosen("encoder/*")
    assert warned[0].filename == __file__
    assert found == chosen("encoder/.*") == {"encoder/dense", "encoder/dense_1"}


def test_networks_by_name_take_regular_expressions_alone():
    rule = {"conv0|dense": "usf", "block_group1_(?:conv)?.*": "feedback_alignment"}
    network = models.get("resnet8", 3, (8, 8, 1), rule, seed=0)
    assert network.get_layer("conv0").rule.name == "usf"
    with pytest.raises(UserError, match="is no regular expression"):
        models.get("resnet8", 3, (8, 8, 1), {"*": "usf"}, seed=0)
