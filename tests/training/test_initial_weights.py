"""Runs that start from the weights of files, runs and checkpoints."""

import json
import shutil

import keras
import numpy as np
import pytest

from tests.training.test_own_images import make_tree, train
from tfcredit import models
from tfcredit.analysis import alignment
from tfcredit.convert import to_backprop
from tfcredit.errors import UserError
from tfcredit.training.initial import start_from


def fc(rule="info_alignment", seed=0, classes=3, **options):
    return models.get(
        "fc", classes, (4, 4, 1), rule=rule, seed=seed, **{"widths": 6, "depth": 2, **options}
    )


def started(path, drop_head=False, **options):
    """A network that started from a file, and what was told."""
    network = fc(seed=1, **options)
    told = start_from(network, path, drop_head, lambda: fc(seed=2, **options))
    return network, told


def kernels(network):
    return {v.path: v.numpy() for v in network.variables if "kernel" in v.path}


def same(network, other, paths):
    first, second = kernels(network), kernels(other)
    return [path for path in paths if not np.array_equal(first[path], second[path])] == []


FORWARD = ["dense0/kernel", "dense1/kernel", "dense_output/kernel"]
FEEDBACK = [path.replace("kernel", "feedback_kernel") for path in FORWARD]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network, and files of it and of its plain twin."""
    folder, network = tmp_path_factory.mktemp("weights"), fc()
    network.save(folder / "own.keras")
    network.save_weights(folder / "own.weights.h5")
    to_backprop(network).save(folder / "plain.keras")
    to_backprop(network).save_weights(folder / "plain.weights.h5")
    return network, folder


@pytest.mark.parametrize("name", ["own.keras", "own.weights.h5"])
def test_both_kernels_of_the_same_rule_are_taken(files, name):
    network, folder = files
    found, told = started(folder / name)
    assert same(found, network, FORWARD + FEEDBACK)
    assert "3 of 3 layers; 3 of 3 feedback kernels" in told


@pytest.mark.parametrize("name", ["plain.keras", "plain.weights.h5"])
def test_of_a_plain_network_w_is_taken_and_b_starts_anew(files, name):
    network, folder = files
    found, told = started(folder / name, rule="soft_alignment(angle=30)")
    assert same(found, network, FORWARD) and "0 of 3 feedback kernels" in told
    for record in alignment(found):  # of B and the W that it has got
        assert record["angle"] == pytest.approx(30, abs=0.1)


def test_a_rule_that_states_its_angle_takes_no_kernel_of_another(tmp_path):
    fc("soft_alignment(angle=30)").save(tmp_path / "x.keras")
    found, told = started(tmp_path / "x.keras", rule="soft_alignment(angle=60)")
    assert "0 of 3 feedback kernels" in told
    assert all(record["angle"] == pytest.approx(60, abs=0.1) for record in alignment(found))
    _, told = started(tmp_path / "x.keras", rule="soft_alignment(angle=30)")
    assert "3 of 3 feedback kernels" in told


def test_a_tracking_rule_aligns_with_the_new_weights(files):
    network, folder = files
    found, _ = started(folder / "plain.keras", rule="tracking_mirror(angle=2)")
    images = keras.random.normal((32, 4, 4, 1), seed=0)
    found(images, training=True)
    assert same(found, network, FORWARD)
    assert max(record["angle"] for record in alignment(found)) < 10


def test_the_head_can_be_dropped(files):
    network, folder = files
    for name in ("own.keras", "own.weights.h5"):
        found, told = started(folder / name, drop_head=True, classes=5)
        assert same(found, network, FORWARD[:2] + FEEDBACK[:2])
        assert same(found, fc(seed=1, classes=5), FORWARD[2:] + FEEDBACK[2:])
        assert "2 of 3 layers, all but dense_output" in told


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (
            "own.keras",
            {"classes": 5},
            "dense_output has a kernel of shape (6, 3), not (6, 5): give",
        ),
        ("own.keras", {"classes": 5}, "--initial_head=drop"),
        ("plain.keras", {"widths": 7}, "dense0 has a kernel of shape (16, 6), not (16, 7); dense1"),
        ("own.keras", {"depth": 1}, "dense1 is not in this network"),
        ("own.keras", {"depth": 3}, "dense2 has no kernel"),
        ("own.weights.h5", {"widths": 7}, "dense0 has no kernel"),
        ("plain.weights.h5", {"depth": 1}, "is of another network"),
        ("missing.weights.h5", {}, "missing.weights.h5 is missing"),
        ("missing", {}, "is no saved network"),
    ],
)
def test_weights_of_another_network_are_refused(files, name, options, told):
    network = fc(seed=1, **options)
    before = kernels(network)
    with pytest.raises(UserError) as caught:
        start_from(network, files[1] / name, False, lambda: fc(seed=2, **options))
    assert told in str(caught.value)
    assert all(np.array_equal(value, before[path]) for path, value in kernels(network).items())


def test_a_run_starts_from_another_and_goes_on_without_it(tmp_path, capsys):
    tree, first, second = make_tree(tmp_path / "images"), tmp_path / "first", tmp_path / "second"
    assert train(tree, first, "--rule=kolen_pollack", "--epochs=1") == 0
    flags = [f"--initial_weights={first / 'checkpoints' / 'best'}", "--rule=kolen_pollack"]
    flags += ["--learning_rate=1e-9", "--decay=0", "--warmup_epochs=0", "--l2=0", "--epochs=1"]
    assert train(tree, second, *flags) == 0
    assert "4 of 4 layers; 4 of 4 feedback kernels" in capsys.readouterr().out
    loss = [json.loads((run / "summary.json").read_text())["loss"] for run in (first, second)]
    assert loss[1] == pytest.approx(loss[0], abs=0.05)
    assert f"--initial_weights={first}" in (second / "flags.txt").read_text()
    shutil.rmtree(first)
    assert train(tree, second, *flags, "--resume=must") == 0
    assert train(tree, tmp_path / "third", *flags) == 2
    assert "is no saved network" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()
