"""Search spaces: the built-in ones, files, and what may be wrong with them."""

import json

import pytest

from tfcredit import rules
from tfcredit.errors import UserError
from tfcredit.search import space
from tfcredit.search.space import Parameter
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.rule_flags import rule_of

NAMES = sorted(set(rules.names()) - {"alignment"})  # which has no default


@pytest.mark.parametrize("rule", [*NAMES, "0.01*amp + 0.02*decay"])
def test_the_built_in_space_lies_around_the_defaults(rule):
    made = rules.get(rule)
    defaults = {"learning_rate": 0.1}
    if made.feedback_optimizer:
        defaults["feedback_learning_rate"] = made.feedback_optimizer[1]
    defaults |= getattr(made, "coefficients", {})
    defaults |= {f"rule.{name}": value for name, value in made.get_config().items()}
    found = space.get(None, Recipe(rule=rule), set())  # which checks that the extremes make a rule
    for name, one in found.items():
        assert one.low <= defaults[name] <= one.high
        assert not one.log or one.high / one.low >= 10
    follows = made.learns and not made.follows_forward
    assert ("feedback_learning_rate" in found) == follows


@pytest.mark.parametrize("rule", NAMES)
def test_every_argument_that_is_a_number_is_searched(rule):
    left_out = {"samples", "first_steps", "error", "decay", "stddev"}  # of akrout_mirror, sums
    config = rules.get(rule).get_config()
    numbers = {k.rstrip("_") for k, v in config.items() if isinstance(v, (int, float))}
    searched = {name.removeprefix("rule.") for name in space.built_in(rule)}
    assert numbers - left_out <= searched


def test_what_is_given_is_not_searched():
    recipe, given = parse(["--rule=weight_mirror", "--amp=0.1", "--learning_rate=0.02"])
    assert set(space.get(None, recipe, given)) == {"decay", "feedback_learning_rate"}


def test_another_rules_space_and_stated_coefficients():
    assert space.get("weight_mirror", Recipe(), set()) == space.built_in("weight_mirror")
    assert space.built_in("weight_mirror(amp=1.0)")["amp"] == Parameter(0.01, 100.0, log=True)


CONTENT = {
    "amp": {"low": 1e-5, "high": 1, "log": True},
    "alternate_steps": {"low": 0, "high": 4},
    "optimizer": {"choices": ["momentum", "adam"]},
    "augment": {"choices": [True, False]},
}
TOML = """
amp = {low = 1e-5, high = 1, log = true}
optimizer.choices = ["momentum", "adam"]
augment.choices = [true, false]
[alternate_steps]
low = 0
high = 4
"""
READ = {
    "amp": Parameter(1e-5, 1.0, log=True),
    "alternate_steps": Parameter(0, 4),
    "optimizer": Parameter(choices=("momentum", "adam")),
    "augment": Parameter(choices=(True, False)),
}


@pytest.mark.parametrize("name, text", [("a.json", json.dumps(CONTENT)), ("a.toml", TOML)])
def test_a_file_is_read(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    found = space.get(str(path), Recipe(rule="weight_mirror"), {"rule"})
    assert found == READ
    assert {type(v) for v in found["alternate_steps"].extremes()} == {int}


@pytest.mark.parametrize(
    "text", ["[rule.angle]\nlow = 1\nhigh = 80", '"rule.angle" = {low = 1, high = 80}']
)
def test_arguments_of_the_rule(text, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(text)
    recipe = Recipe(rule="calibrated_mirror(gain=0.5)", augment=False)
    assert space.get(str(path), recipe, {"rule"}) == {"rule.angle": Parameter(1.0, 80.0)}
    made = space.apply({"rule.angle": 7.5, "learning_rate": 0.3}, recipe, "--seed=3")
    assert made.learning_rate == 0.3 and made.seed == 3 and made.augment is False
    assert rule_of(made) == rules.CalibratedMirror(angle=7.5, gain=0.5)


# space file -> words that the sentence must hold
MISTAKES = {
    '{"ampp": {"low": 1, "high": 2}}': ["'ampp' is no flag", "did you mean 'amp'"],
    '{"run_dir": {"choices": ["a", "b"]}}': ["'run_dir' is no flag that can be searched"],
    '{"seed": {"low": 1, "high": 2}}': ["'seed' is no flag that can be searched"],
    '{"rule": "weight_mirror"}': ["'rule' is no flag that can be searched"],
    '{"rule.angel": {"low": 1, "high": 2}}': ["'rule.angel'", "weight_mirror", "rule.amp"],
    '{"amp": {"low": 1}}': ["amp = {'low': 1}", "low and high"],
    '{"amp": [1, 2]}': ["amp = [1, 2]", "low and high"],
    '{"amp": {"low": 1, "high": 2, "choices": [1]}}': ["amp", "or choices"],
    '{"amp": {"low": 2, "high": 1}}': ["amp", "low must be below high"],
    '{"amp": {"low": 1, "high": 1}}': ["amp", "low must be below high"],
    '{"amp": {"low": 0, "high": 1, "log": true}}': ["amp", "above 0 for log"],
    '{"amp": {"low": 0, "high": 1, "log": "yes"}}': ["amp", "true or false"],
    '{"amp": {"low": "a", "high": 1}}': ["amp", "finite numbers"],
    '{"amp": {"low": NaN, "high": 1}}': ["amp", "finite numbers"],
    '{"amp": {"low": -1, "high": 1}}': ["--amp=-1.0", "at least 0"],
    '{"null": {"low": 0, "high": 1}}': ["null", "amp, decay"],
    '{"batch_size": {"low": 1.5, "high": 8}}': ["batch_size", "integers"],
    '{"optimizer": {"low": 1, "high": 2}}': ["optimizer", "give choices"],
    '{"optimizer": {"choices": ["adam"]}}': ["optimizer", "two or more"],
    '{"optimizer": {"choices": [["adam"], 1]}}': ["optimizer", "two or more words"],
    '{"schedule": {"choices": ["cosine", "sine"]}}': ["--schedule=sine", "cosine"],
    '{"epochs": {"choices": [1, "many"]}}': ["epochs", "many"],
    '{"model": {"choices": ["fc", "conv"]}}': ["--model=fc is given", "leave one out"],
    "{}": ["nothing to search"],
    "[]": ["must map"],
    "{": ["can't be read"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told(text, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(text)
    recipe, given = parse(["--rule=weight_mirror", "--model=fc"])
    with pytest.raises(UserError) as told:
        space.get(str(path), recipe, given)
    assert all(word in str(told.value) for word in MISTAKES[text])


@pytest.mark.parametrize(
    "identifier, words",
    [
        ("/nowhere.toml", ["/nowhere.toml", "can't be read", "No such file"]),
        ("weight_miror", ["weight_miror", "weight_mirror"]),
    ],
)
def test_an_unknown_space(identifier, words):
    with pytest.raises(UserError) as told:
        space.get(identifier, Recipe(), set())
    assert all(word in str(told.value) for word in words)
