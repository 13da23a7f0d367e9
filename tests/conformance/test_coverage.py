"""The tables list every rule and layer."""

from tests.conformance.descriptors import (
    FIXED,
    LAYERS,
    LEARN,
    MORE_PAIRS,
    RULES,
    UPDATE,
    layer,
    mechanism,
)
from tests.layers.test_composite import LAYERS as COMPOSITES
from tests.layers.test_recurrent import KINDS as RECURRENT
from tfcredit import layers, rules


def test_every_rule_is_listed():
    assert sorted(RULES) == rules.names()
    unlisted = {*rules.names()} ^ {*LEARN, *UPDATE, *FIXED}
    assert not unlisted, f"{unlisted}: mend LEARN, UPDATE or FIXED in conformance/descriptors.py"
    assert set(rules.get(RULES["alignment"]).coefficients) == set(rules.alignment.PRIMITIVES)


def test_every_layer_is_listed():
    known = {getattr(layers, name) for name in layers.__all__} - {layers.backprop_errors}
    single = {cls for cls in known if issubclass(cls, layers.FeedbackLayer)}
    assert single - {layers.FeedbackLayer} == {type(layer(name, "backprop")[0]) for name in LAYERS}
    composite = {cls.__name__ for cls in known - single if issubclass(cls, layers.CompositeLayer)}
    recurrent = {name for kind in RECURRENT for name in (kind, f"{kind}Cell")}
    assert composite == {*COMPOSITES, *recurrent, "CompositeLayer"}
    others = {layers.DirectFeedback, layers.RNN}
    assert known - single == {getattr(layers, name) for name in composite} | others


def test_rules_are_listed_by_what_they_do():
    for name in RULES:
        rule = rules.get(RULES[name])
        assert rule.learns == (name in LEARN), name
        assert (type(rule).update is not rules.Rule.update) == (name in UPDATE), name


def test_quick_tests_meet_every_mechanism_on_every_layer():
    quick = {pair.values for pair in MORE_PAIRS if not pair.marks}
    assert {(name, rule) for name in ("dense", "conv") for rule in RULES} <= quick
    for name in LAYERS:
        met = [rule for rule in RULES if (name, rule) in quick]
        assert "alignment" in met, "the sum of all primitives"
        assert {mechanism(rule) for rule in met} == {mechanism(rule) for rule in RULES}
