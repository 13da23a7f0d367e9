"""`--rule="PATTERN: RULE; ..."`: rules by layer on the command line."""

import json

import keras
import pytest

from tfcredit import cli
from tfcredit.analysis import feedback_layers
from tfcredit.search import space
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe, parse

SMALL = ["--model=fc", "--steps=2", "--batch_size=16", "--dataset=embedded"]
RULE = "dense_output: backprop; dense0: kolen_pollack; .*: weight_mirror(amp=0.01)"


def test_a_run_has_these_rules_and_repeats_itself(tmp_path, capsys):
    assert cli.train_main([*SMALL, f"--rule={RULE}", f"--run_dir={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rule"] == RULE and set(summary["angles"]) == {"dense0", "dense1", "dense2"}
    network = keras.models.load_model(tmp_path / "run" / "model.keras")
    rules = {layer.name: layer.rule for layer in feedback_layers(network)}
    assert [rules[f"dense{i}"].name for i in range(3)] == ["kolen_pollack", *["weight_mirror"] * 2]
    assert rules["dense1"].coefficients["amp"] == 0.01
    again = [f"--flagfile={tmp_path / 'run' / 'flags.txt'}", "--resume=auto"]
    assert cli.train_main([*again, f"--run_dir={tmp_path / 'run'}"]) == 0
    assert "Continuing at step 2" in capsys.readouterr().out


def test_the_feedback_optimizer_is_that_of_the_rules_that_have_one():
    recipe = Plan.of(parse([*SMALL, f"--rule={RULE}"])[0]).recipe
    assert (recipe.feedback_optimizer, recipe.feedback_learning_rate) == ("adam", 0.001)
    recipe = Plan.of(parse([*SMALL, "--rule=dense0: sign_symmetry"])[0]).recipe
    assert recipe.feedback_optimizer is None


def test_a_search_of_rules_by_layer_searches_what_they_share():
    assert set(space.get(None, Recipe(rule=RULE), set())) == {"learning_rate"}


# value of --rule and other flags -> words of the refusal
MISTAKES = {
    "conv.*: backprop": ["'conv.*' fits no layer", "dense0"],
    "dense0: weight_miror; .*: backprop": ["weight_miror", "weight_mirror"],
    "dense0: backprop; dense0: weight_mirror": ["'dense0: weight_mirror'", "each pattern once"],
    "dense0: ": ["'dense0:'", "a pattern for layers, a colon"],
    "dense0: backprop: weight_mirror": ["a pattern for layers, a colon"],
    "dense0(: backprop": ["dense0("],
    "dense0: weight_mirror --amp=1": ["--amp", "contradict", "in brackets"],
    "dense0: weight_mirror --delay_epochs=1": ["--delay_epochs"],
    "dense0: weight_mirror; dense1: symmetric_alignment": ["different feedback optimizers"],
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_told_in_a_sentence(words, tmp_path, capsys):
    rule, *others = words.split(" --")
    flags = [f"--rule={rule}", *(f"--{other}" for other in others)]
    assert cli.train_main([*SMALL, *flags, f"--run_dir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(word in told for word in MISTAKES[words])
    assert not (tmp_path / "run").exists()
