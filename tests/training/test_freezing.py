"""`--trainable` and `--bn_trainable`: layers that train, and layers that are frozen."""

import json

import keras
import numpy as np
import pytest

from tests.training.test_own_images import make_tree
from tfcredit import cli, models
from tfcredit.training.freezing import freeze, told
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe
from tfcredit.training.run_directory import RunDirectory


def frozen(model="resnet8", rule="info_alignment", **flags):
    network = models.get(model, 2, (8, 8, 3), rule=rule, seed=0)
    freeze(network, Recipe(**flags))
    return network


def trained(network):
    return {variable.path for variable in network.trainable_variables}


def test_layers_of_a_pattern_train():
    network = frozen(trainable="dense|block_group3_.*conv.")
    assert {path.split("/")[0] for path in trained(network)} == {
        "dense",
        *(f"block_group3_0_conv{number}" for number in (0, 1, 2)),
    }
    assert "dense/feedback_kernel" in trained(network)
    assert told(network) == (
        "Trainable: 4 of 21 layers with weights; the others are frozen "
        "(batch norms among them: 10)."
    )


def test_batch_norms_alone_are_frozen_and_rest():
    network = frozen(bn_trainable=False)
    assert not any("batch_normalization" in path for path in trained(network))
    assert len(trained(network)) == len(trained(frozen())) - 20
    norm = network.get_layer("conv0_batch_normalization")
    images = keras.random.normal((4, 8, 8, 16), seed=1)
    before = norm.moving_mean.numpy()
    np.testing.assert_array_equal(norm(images, training=True), norm(images, training=False))
    np.testing.assert_array_equal(norm.moving_mean, before)


def test_batch_norms_train_whatever_the_pattern():
    network = frozen(trainable="dense", bn_trainable=True)
    assert {path.split("/")[-1] for path in trained(network) if "dense" not in path} == {
        "gamma",
        "beta",
    }


def test_direct_feedback_learns_whatever_the_pattern():
    network = frozen("fc", "direct_kolen_pollack", trainable="dense_output")
    assert {path.split("/")[0] for path in trained(network)} == {"dense_output", "direct_feedback"}
    assert told(network) == "Trainable: 1 of 4 layers with weights; the others are frozen."


def test_layers_whose_rule_lets_nothing_learn_do_not_count():
    network = frozen("fc", {"dense0": "frozen", ".*": "info_alignment"}, trainable="dense[01]")
    assert told(network) == "Trainable: 1 of 4 layers with weights; the others are frozen."


def test_a_frozen_nested_model_is_thawed_where_the_pattern_fits():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")],
        name="inner",
    )
    inner.trainable = False
    network = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2, name="top")])
    freeze(network, Recipe(trainable="inner/b|top"))
    assert {path.split("/")[-2] for path in trained(network)} == {"b", "top"}


@pytest.mark.every(4)
@pytest.mark.parametrize("rule", ["info_alignment", "backprop", "kolen_pollack", "tracking_mirror"])
def test_a_run_trains_these_layers_alone(rule, tmp_path, capsys):
    tree, run = make_tree(tmp_path / "images"), tmp_path / "run"
    flags = ["--dataset=folder", f"--data_dir={tree}", "--image_size=8", "--batch_size=8"]
    flags += ["--model=fc", f"--rule={rule}", "--trainable=dense_output", f"--run_dir={run}"]
    assert cli.train_main([*flags, "--steps=3", "--learning_rate=0.1"]) == 0
    assert (
        "Trainable: 1 of 4 layers with weights; the others are frozen." in capsys.readouterr().out
    )
    first = at_start(run)
    last = {v.path: v.numpy() for v in models.load(run / "model.keras").variables}
    changed = {path for path in last if not np.array_equal(last[path], first[path])}
    found = {path for path in changed if path.startswith("dense_output/")}
    # A B that is drawn at random is aligned with W once, as errors travel on through it.
    aligned = {f"dense{i}/{name}" for i in range(3) for name in ("feedback_kernel", "rule_memory")}
    assert found and changed - found == (aligned if rule == "tracking_mirror" else set())
    assert cli.train_main([*flags, "--steps=3", "--learning_rate=0.1", "--resume=must"]) == 0
    assert "--trainable=dense_output" in json.loads((run / "summary.json").read_text())["flags"]


def at_start(run):
    """The weights that a run's seed draws."""
    network = Plan.of(RunDirectory(run).stored()).network()
    return {v.path: v.numpy() for v in network.variables}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("none.*", "fits no layer with weights"), ("(", "is no regular expression")],
)
def test_a_pattern_that_is_a_slip(pattern, words, tmp_path, capsys):
    flags = ["--model=fc", f"--trainable={pattern}", f"--run_dir={tmp_path / 'run'}"]
    assert cli.train_main([*flags, "--steps=1", "--dataset=embedded"]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()
