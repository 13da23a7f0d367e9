"""Runs that start from the weights of files, runs and checkpoints."""

import json
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tests.convert.reference_writer import authors_values, write_checkpoint
from tests.training.test_own_images import make_tree, train
from tfcredit import layers, models, rules
from tfcredit.analysis import alignment, feedback_layers
from tfcredit.convert import to_backprop
from tfcredit.errors import UserError
from tfcredit.training.initial import _chosen_places, start_from
from tfcredit.training.recipe import Recipe
from tfcredit.training.saved import Saved


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


@pytest.mark.parametrize("rule", ["info_alignment", "backprop"])
def test_weights_of_a_network_that_was_trained_have_its_optimizer_beside_them(rule, tmp_path):
    network = to_backprop(fc()) if rule == "backprop" else fc(rule)
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(np.ones((4, 4, 4, 1)), np.arange(4) % 3, verbose=0)
    path = tmp_path / "trained.weights.h5"
    network.save_weights(path)
    with h5py.File(path, "a") as file:
        assert "optimizer" in file
        file["metrics/mean/vars/0"] = np.zeros(())  # as Keras 2.13 and later write it
    found, told = started(path)
    assert same(found, network, FORWARD)
    assert f"3 of 3 layers; {3 * (rule != 'backprop')} of 3 feedback kernels" in told


def test_a_rule_that_states_its_angle_takes_no_kernel_of_another(tmp_path):
    fc("soft_alignment(angle=30)").save(tmp_path / "x.keras")
    found, told = started(tmp_path / "x.keras", rule="soft_alignment(angle=60)")
    assert "0 of 3 feedback kernels" in told
    assert all(record["angle"] == pytest.approx(60, abs=0.1) for record in alignment(found))
    _, told = started(tmp_path / "x.keras", rule="soft_alignment(angle=30)")
    assert "3 of 3 feedback kernels" in told


def test_kernels_of_recurrent_layers_are_told_apart(tmp_path):
    def made():
        x = inputs = keras.Input((4, 3))
        for name, angle, whole in (("low", 30, True), ("high", 60, False)):
            rule = f"soft_alignment(angle={angle})"
            x = layers.SimpleRNN(3, rule=rule, return_sequences=whole, name=name)(x)
        return keras.Model(inputs, x)

    made().save(tmp_path / "x.keras")
    told = start_from(made(), tmp_path / "x.keras", False, made)
    assert "2 of 2 layers; 4 of 4 feedback kernels" in told
    # A pattern of --rule means the layer that the kernels are in.
    network = made()
    chosen = _chosen_places(network)
    names = [chosen[id(layer)].path for layer in feedback_layers(network)]
    assert names == ["low", "low", "high", "high"]


def test_a_checkpoint_of_rules_by_layer_tells_the_rule_of_each(monkeypatch):
    recipe = Recipe(rule="dense0: soft_alignment(angle=30); dense1: usf")
    monkeypatch.setattr(Saved, "recipe", recipe)
    found = [Saved(Path("run")).rule_of("", name) for name in ("dense0", "dense1", "other")]
    assert found == [rules.get("soft_alignment(angle=30)"), rules.get("usf"), None]


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


def write_keras_2(path, network, names=None, whole=False):
    """Weights of a network in the layout that Keras 2 writes: names, and arrays in groups.

    Args:
        path: The file.
        network: A network of Keras' layers.
        names: Names of layers in the file; default: their own.
        whole: True for the layout of a whole model.
    """
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        layers = [layer for layer in network.layers if layer.weights]
        names = names or [layer.name for layer in layers]
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name, layer in zip(names, layers, strict=True):
            inner = group.create_group(name)
            paths = [f"{name}/{weight.name}:0" for weight in layer.weights]
            inner.attrs["weight_names"] = [each.encode() for each in paths]
            for each, weight in zip(paths, layer.weights, strict=True):
                inner[each] = weight.numpy()
        if whole:
            file.create_group("optimizer_weights")["slot"] = np.zeros(3)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".hdf5"])
def test_a_file_of_keras_2_is_taken_by_name(files, tmp_path, ending, whole):
    network, path = files[0], tmp_path / f"old{ending}"
    write_keras_2(path, to_backprop(network), whole=whole)
    found, told = started(path)
    assert same(found, network, FORWARD)
    assert f"old{ending}: 3 of 3 layers; 0 of 3 feedback kernels" in told
    found, told = started(path, drop_head=True, classes=5)
    assert same(found, network, FORWARD[:2]) and "2 of 3 layers" in told


def test_layers_that_keras_has_counted_are_taken_by_their_order(files, tmp_path):
    network, path = files[0], tmp_path / "old.h5"
    write_keras_2(path, to_backprop(network), ["dense_7", "dense1", "dense_9"])
    found, told = started(path)
    assert same(found, network, FORWARD) and "old.h5 by the order of layers: 3 of 3" in told
    for names, options in ((["a", "b", "c"], {"widths": 7}), (None, {"depth": 3})):
        write_keras_2(path, to_backprop(network), names)
        with pytest.raises(UserError, match=r"old.h5 is of another network"):
            started(path, **options)


def test_a_whole_model_that_keras_3_writes_in_the_format_of_keras_2(tmp_path):
    plain = to_backprop(models.get("resnet8", 10, (16, 16, 3), seed=0))
    plain.save(tmp_path / "old.h5")
    network = models.get("resnet8", 10, (16, 16, 3), rule="kolen_pollack", seed=1)
    told = start_from(
        network,
        tmp_path / "old.h5",
        False,
        lambda: models.get("resnet8", 10, (16, 16, 3), rule="kolen_pollack", seed=2),
    )
    images = keras.random.normal((4, 16, 16, 3), seed=1)
    assert "21 of 21 layers" in told
    np.testing.assert_allclose(network(images), plain(images), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The prefix of a made-up checkpoint of the authors' ResNet-18, and its values."""
    values = authors_values("resnet18")
    prefix = tmp_path_factory.mktemp("reference") / "model.ckpt-450360"
    return write_checkpoint(prefix, values), values


@pytest.mark.slow
def test_a_checkpoint_of_the_authors(reference):
    prefix, values = reference

    def make(classes=1000):
        return models.get("resnet18", classes, (32, 32, 3), rule="info_alignment", seed=1)

    network = make()
    told = start_from(network, Path(prefix), False, make)
    assert "(resnet18, step 450360): 43 of 43 layers; 22 of 22 feedback kernels." in told
    layer = network.get_layer("dense")
    np.testing.assert_array_equal(layer.kernel, values["dense/forward_kernel"])
    np.testing.assert_array_equal(layer.feedback_kernel, values["dense/backward_kernel"].T)
    other = make(5)
    with pytest.raises(UserError, match="--initial_head=drop"):
        start_from(other, Path(prefix), False, make)
    assert "all but dense" in start_from(other, Path(prefix), True, make)


def test_a_checkpoint_of_the_authors_names_its_network(reference):
    with pytest.raises(UserError, match="holds a resnet18 .* give --model=resnet18"):
        started(Path(reference[0]))
    with pytest.raises(UserError, match="holds a resnet18"):
        (Path(reference[0]).parent / "checkpoint").write_text(
            f'model_checkpoint_path: "{reference[0]}"'
        )
        started(Path(reference[0]).parent)


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
