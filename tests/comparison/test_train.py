"""`tfcredit.train` and `tfcredit.compare` on arrays, data sets, networks and rules of Python."""

import inspect
import json
import pathlib
import signal
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

import tfcredit
from tests.conftest import ROOT
from tfcredit import cli, data, rules
from tfcredit.analysis.plots import compare as figure_of
from tfcredit.data import Shard, own_arrays, streams
from tfcredit.errors import UserError
from tfcredit.primitives import amp, decay
from tfcredit.report import find_runs
from tfcredit.training.flags import as_arguments
from tfcredit.training.given import Given, rule_text
from tfcredit.training.recipe import Recipe


def arrays(examples=48, seed=0):
    """Images of three classes by which third of them is light, and their labels."""
    labels = np.arange(examples) % 3
    images = np.random.default_rng(seed).integers(0, 128, (examples, 6, 6, 1))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 100
    return images.astype("uint8"), labels


X, Y = arrays()
TEST = arrays(30, seed=1)
FLAGS = {"epochs": 3, "batch_size": 16, "learning_rate": 0.5, "deterministic": True}


def net(classes, input_shape, seed=0):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.Dense(classes, "softmax", name="top"),
        ]
    )


def train(folder, given=(X, Y), model=net, rule="tracking_mirror", **options):
    options = {"test": TEST, "run_dir": folder, **FLAGS, **options}
    return tfcredit.train(given, model, rule, **options)


def weights(run):
    return [variable.numpy() for variable in run.network().weights]


def without_times(run):
    return [{k: v for k, v in record.items() if "second" not in k} for record in run.records]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    return train(tmp_path_factory.mktemp("train") / "whole")


def test_a_run_learns_and_tells_what_came_of_it(whole):
    assert whole.summary["top1"] > 0.6 and whole.summary["step"] == 9
    assert whole.summary == json.loads((whole.path / "summary.json").read_text())
    assert [record["epoch"] for record in whole.records] == [0, 1, 2, 3]
    assert whole.records[-1]["top1"] == pytest.approx(whole.summary["top1"])
    assert whole.records[-1]["mean_angle"] < 20 < whole.records[0]["mean_angle"]
    network = whole.network()
    assert [layer.rule.name for layer in network.layers[-2:]] == ["tracking_mirror"] * 2
    figure_of(whole.records)  # as those of tfcredit.compare
    (found,) = find_runs([whole.path])
    assert (found.recipe.dataset, found.recipe.model, found.state) == (
        "arrays",
        "<net>",
        "finished",
    )
    assert any((whole.path / "tensorboard").iterdir())


def test_a_stopped_run_goes_on_by_the_same_call_to_the_same_numbers(whole, tmp_path):
    class Stopping(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                signal.raise_signal(signal.SIGTERM)

    first = train(tmp_path / "run", callbacks=[Stopping()])
    assert first.summary is None and len(first.records) < 4
    with pytest.raises(UserError, match="has not ended: call train again"):
        first.network()
    again = train(tmp_path / "run")
    for one, other in zip(weights(again), weights(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    kept = ("rule", "seed", "epoch", "step", "top1", "mean_angle")
    chosen = [[record[name] for name in kept] for record in again.records]
    assert chosen == [[record[name] for name in kept] for record in whole.records]


def test_a_finished_run_is_given_back_and_other_arrays_are_refused(whole):
    before = (whole.path / "metrics.csv").stat().st_mtime_ns
    again = train(whole.path)
    assert again.summary["top1"] == whole.summary["top1"]
    assert (whole.path / "metrics.csv").stat().st_mtime_ns == before
    assert without_times(again) == without_times(whole)
    with pytest.raises(UserError, match="holds a run with other training images"):
        train(whole.path, (X + 1, Y))

    def net(input_shape):
        return small(3, input_shape)

    with pytest.raises(UserError, match="another network than"):
        train(whole.path, model=net)
    with pytest.raises(UserError, match="another network, --model=<net>, not <other>.*function"):
        train(whole.path, model=keras.Sequential([*net((6, 6, 1)).layers], name="other"))
    with pytest.raises(UserError, match="holds a run already"):
        train(whole.path, resume="never")


def small(classes, input_shape):
    x = keras.Input(input_shape)
    return keras.Model(x, keras.layers.Dense(classes)(keras.layers.Flatten()(x)), name="net")


@pytest.mark.slow
def test_the_command_trains_the_same_weights_on_a_file_of_the_arrays(whole, tmp_path, capsys):
    file, code = tmp_path / "images.npz", tmp_path / "nets.py"
    np.savez(file, x_train=X, y_train=Y, x_test=TEST[0], y_test=TEST[1])
    code.write_text(f"import keras\n\n\n{inspect.getsource(net)}")
    flags = as_arguments(Recipe, {**FLAGS, "dataset": "arrays", "data_dir": file})
    flags += [f"--model={code}:net", "--rule=tracking_mirror", f"--run_dir={tmp_path / 'run'}"]
    assert cli.train_main(flags) == 0
    by_command = tfcredit.models.load(tmp_path / "run" / "model.keras")
    for one, other in zip(weights(whole), by_command.weights, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    lines = [
        set((path / "flags.txt").read_text().split()) for path in (whole.path, tmp_path / "run")
    ]
    assert lines[0] ^ lines[1] == {"--model=<net>", f"--model={code}:net", f"--data_dir={file}"}
    # What was trained in Python is evaluated on the file.
    capsys.readouterr()
    command = ["evaluate", f"--model={whole.path}"]
    assert cli.main([*command, f"--data_dir={file}"]) == 0
    assert f"top-1 {whole.summary['top1']:.4f}" in capsys.readouterr().out
    assert cli.main(command) == 2
    assert "needs data_dir, a .npz file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dataset_a_network_and_rules_by_layer(tmp_path):
    model = net(3, (6, 6, 1))
    before = [weight.numpy() for weight in model.weights]
    batches = tf.data.Dataset.from_tensor_slices((X / 255, Y)).batch(20)
    test = tf.data.Dataset.from_tensor_slices((TEST[0] / 255, TEST[1]))
    chosen = {"hidden": rules.WeightMirror(amp=0.1), "top": "backprop"}
    run = train(tmp_path / "run", batches, model, chosen, test=test, steps=2, epochs=None)
    assert "30 test images" in run.summary["data"] and run.summary["step"] == 2
    for one, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, weight.numpy())  # the network given stays as it is
    assert run.records[0]["rule"] == "hidden: weight_mirror(amp=0.1); top: backprop"
    flags = (run.path / "flags.txt").read_text()
    assert "--dataset=tf.data\n" in flags and "--model=<sequential" in flags
    for command in ([f"--flagfile={run.path / 'flags.txt'}"], ["--mode=export"]):
        assert cli.train_main([*command, f"--run_dir={run.path}", "--resume=auto"]) == 2


def test_a_dataset_gives_every_image_once_in_an_order_of_the_seed():
    images = np.arange(40, dtype="float32")[:, None, None, None] * np.ones((1, 2, 2, 1), "float32")
    given = tf.data.Dataset.from_tensor_slices((images, np.arange(40) % 2))
    found = streams.of_datasets({"train": given, "test": given.take(10)})
    assert (found.classes, found.train_examples, found.test_examples) == (2, 40, 10)

    def order(*options, **shard):
        batches = found.train(12, *options, shard=Shard(**shard))
        return [image[:, 0, 0, 0].tolist() for image, _ in batches.as_numpy_iterator()]

    tf.random.set_seed(0)
    first = order(1, 0)
    assert len(first) == 3 and len({n for batch in first for n in batch}) == 36
    assert order(1, 0, 2) == first[2:] and order(1, 1) != first != order(2, 0)
    halves = [order(1, 0, index=index, count=2, pieces=2) for index in (0, 1)]
    pieces = [half[piece::2] for half in halves for piece in (0, 1)]
    assert [sum(parts, []) for parts in zip(*pieces, strict=True)] == first
    seen = [list(found.evaluation(8, Shard(i, 2)).as_numpy_iterator()) for i in (0, 1)]
    assert [len(batches) for batches in seen] == [2, 2]  # of 4 images, 5 of them real
    pixels = [(x[:, 0, 0, 0], weight) for host in seen for x, _, weight in host]
    assert sorted(np.concatenate([x[w > 0] for x, w in pixels])) == list(range(10))


def test_a_dataset_that_shuffles_itself_is_told():
    given = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(48)
    with pytest.warns(UserWarning, match="in another order each time.*leave shuffle"):
        streams.of_datasets({"train": given})


def test_arrays_are_prepared_as_asked_for():
    parts = {"train": (X, Y), "val": TEST}
    images, labels = next(iter(own_arrays.of_parts(parts).train(48, 0, 0)))
    assert abs(float(tf.reduce_mean(images))) < 1e-5
    assert float(tf.math.reduce_std(images)) == pytest.approx(1, abs=1e-3)
    raw = own_arrays.of_parts(parts, preprocessing="raw")
    pixels = np.sort(next(iter(raw.train(48, 0, 0)))[0].numpy().ravel())
    np.testing.assert_allclose(pixels, np.sort(X.ravel()), atol=1e-4)
    assert (raw.validation_examples, raw.test_examples) == (30, 0)
    assert own_arrays.of_parts(parts, 4).fingerprints != raw.fingerprints
    same = own_arrays.of_parts({"val": TEST, "train": (X, Y[:, None])})
    assert same.fingerprints == raw.fingerprints


PAIR = (X, Y)
SET = tf.data.Dataset.from_tensor_slices(PAIR)
LENGTH = tf.data.experimental.assert_cardinality(40)
FLAGFILE = ROOT / "configs" / "imagenet" / "resnet18.cfg"
# what is given -> words of the refusal
MISTAKES = {
    "unknown flag": ({"epoch": 3}, "no flag 'epoch'; did you mean 'epochs'"),
    "value of a flag": ({"epochs": "two"}, "epochs"),
    "labels out of range": ({"classes": 2}, "label 2 is outside"),
    "labels of tests": ({"test": (X, Y + 1), "classes": 3}, "label 3 is outside"),
    "too few labels": ({"data": (X, Y[:5])}, "y_train has shape .5,."),
    "one-hot labels": ({"data": (X, np.eye(3)[Y])}, r"y_train.argmax\(1\)"),
    "labels of floats": ({"data": (X, Y / 1.0)}, "labels have dtype float64"),
    "no channels": ({"data": (X[..., 0], Y)}, "x_train has shape .48, 6, 6."),
    "images that are not finite": ({"data": (X * np.nan, Y)}, "x_train holds NaN"),
    "images of several sizes": ({"data": ([*X[:47], X[0, 1:]], Y)}, "x_train can't be made an arr"),
    "labels that are no numbers of classes": ({"data": (X, Y + 10**9)}, "label 1000000002 would"),
    "tests of another size": ({"test": (TEST[0][:, :4], TEST[1])}, "images have shape"),
    "images without labels": ({"data": X}, "data is a ndarray, but .images, labels."),
    "no images": ({"data": (X[:0], Y[:0])}, "holds 0 images"),
    "no tests": ({"test": None}, "training images only.*validation_examples"),
    "a larger part than the set": ({"validation_examples": 48}, "hold out fewer"),
    "mixed kinds": ({"test": SET}, "test is a .*Dataset, but .images, labels."),
    "tests of a name": ({"data": "embedded"}, "test is given beside the data set 'embedded'"),
    "a folder": ({"data": "tests", "test": None}, "'tests' is a path.*'folder'.*data_dir"),
    "an optimizer": ({"optimizer": keras.optimizers.Adam()}, "optimizer is a Adam, but text"),
    "no callback": ({"callbacks": [print]}, "Keras' callbacks were expected"),
    "a file": ({"data": pathlib.Path("a.npz")}, "named by flags, such as"),
    "two sets": ({"dataset": "embedded"}, "dataset='embedded' is given beside data"),
    "a set in a file of flags": ({"flagfile": FLAGFILE}, "dataset='imagenet' is given beside data"),
    "another network": ({"model": 3}, "model=3 is a int"),
    "a network of other classes": ({"model": small(4, (6, 6, 1))}, "tells 4 classes apart"),
    "a network of other images": ({"model": small(3, (5, 5, 1))}, "the images have .6, 6, 1."),
    "a function of no network": ({"model": lambda: 3}, "keras.Model was expected"),
    "a type": ({"model": dict}, "does not tell its arguments"),
    "an unknown rule": ({"rule": "weight_miror"}, "did you mean 'weight_mirror'"),
    "no rule": ({"rule": 3}, "rule=3 is no rule"),
    "a pattern of no layer": ({"rule": {"tip": "backprop"}}, "'tip' fits no layer"),
    "another mode": ({"mode": "export"}, "mode='export' is for the command"),
    "a set that never ends": ({"data": SET.repeat(), "test": SET}, "leave repeat"),
    "a set without length": ({"data": SET.filter(lambda x, y: True), "test": SET}, "its length"),
    "a set of images": ({"data": SET.map(lambda x, y: x), "test": SET}, "pairs of an image"),
    "a set of rows": ({"data": SET.map(lambda x, y: (x, [y, y])), "test": SET}, "rows of 2"),
    "a batched set of rows": (
        {"data": SET.map(lambda x, y: (x, [y, y])).batch(4), "test": SET},
        "rows of 2",
    ),
    "an empty set": ({"data": SET.take(0), "test": SET}, "data set is empty"),
    "a set of ids": (
        {"data": SET.map(lambda x, y: (x, y + 2**32)), "test": SET},
        "label 42949.* wo",
    ),
    "a set of another length": (
        {"data": SET.apply(LENGTH), "test": SET},
        "to its end .*expected to",
    ),
    "a set to prepare": ({"data": SET, "test": SET, "augment": True}, "map the dataset"),
    "a part of a set": ({"data": SET, "test": SET, "validation_examples": 4}, "take and skip"),
}


@pytest.mark.parametrize(("given", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_before_any_file(given, words, tmp_path):
    folder = tmp_path / "run"
    call = {"data": PAIR, "model": small, "rule": "weight_mirror", "test": TEST, "batch_size": 16}
    with pytest.raises(UserError, match=words):
        tfcredit.train(**call | given, run_dir=folder)
    assert not folder.exists()


def test_files_of_arrays_that_can_not_be_read(tmp_path):
    file = tmp_path / "images.npz"
    for content, words in {
        "": "can't be read as a .npz file",
        "x": "can't be read as a .npz file",
        "labels": "holds no y_train",
        "name": "array 'x_tset'.*did you mean 'x_test'",
        "objects": "can't be read",
        "huge": "can't be read as a .npz file .*Unable to allocate",
    }.items():
        if content in ("", "x"):
            file.write_text(content)
        elif content == "huge":
            shape = {"descr": "<f4", "fortran_order": False, "shape": (2**50,)}
            with zipfile.ZipFile(file, "w") as archive, archive.open("x_train.npy", "w") as array:
                np.lib.format.write_array_header_1_0(array, shape)
        else:
            more = {"labels": {}, "name": {"y_train": Y, "x_tset": X}}
            extra = more.get(content, {"y_train": np.array([None])})
            np.savez(file, x_train=X, **extra)
        with pytest.raises(UserError, match=words):
            data.get("arrays", file)
    with pytest.raises(UserError, match="is missing"):
        data.get("arrays", tmp_path / "none.npz")
    with pytest.raises(UserError, match="no option 'image_size'"):
        data.get("arrays", file, image_size=8)


def test_rules_are_written_as_the_command_takes_them():
    assert rule_text(rules.InformationAlignment(null=0.5)) == "info_alignment(null=0.5)"
    assert rule_text({"name": "weight_mirror", "amp": 0.1}) == "weight_mirror(amp=0.1)"
    assert rule_text(0.1 * amp + 0.2 * decay) == "0.1*amp + 0.2*decay"
    assert rule_text({"a.*": "backprop", "b": "drtp"}) == "a.*: backprop; b: drtp"

    class Unknown(rules.Rule):
        """A rule that is not registered."""

        name = "unknown"

    with pytest.raises(UserError, match="'unknown' is unknown"):
        rule_text(Unknown())


def test_a_policy_that_was_set_is_left(tmp_path):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(UserError, match="fits no layer"):  # which the float32 network tells
            train(tmp_path / "run", model=small, rule={"tip": "backprop"})
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.every(2)
def test_determinism_that_was_off_is_off_behind_a_run(before, tmp_path):
    if before:
        tf.config.experimental.enable_op_determinism()
    train(tmp_path / "run", epochs=1)
    assert config.is_op_determinism_enabled() == before


def test_flags_that_name_no_objects_are_as_ever():
    parts = {"train": None, "test": None, "val": None}
    given = Given.of(parts, None, None, None, {"dataset": "embedded", "epochs": 2})
    assert given.images is None and given.network is None
    assert (given.recipe.dataset, given.recipe.epochs) == ("embedded", 2.0)


@pytest.mark.slow
def test_rules_are_compared_on_arrays(tmp_path):
    names = ["backprop", rules.FeedbackAlignment()]
    flags = {"model": "fc", "steps": 3, "batch_size": 16, "compare_dir": tmp_path / "both"}
    records = tfcredit.compare(names, seeds=2, jobs=2, data=PAIR, test=TEST, **flags)
    assert {record["rule"] for record in records} == {"backprop", "feedback_alignment"}
    with np.load(tmp_path / "both" / "arrays.npz") as kept:
        np.testing.assert_array_equal(kept["x_train"], X)
    again = tfcredit.compare(names, seeds=2, data=PAIR, test=TEST, **flags)
    assert again == records
    with pytest.raises(UserError, match="a comparison with other training images"):
        tfcredit.compare(names, seeds=2, data=(X + 1, Y), test=TEST, **flags)


@pytest.mark.parametrize(
    ("given", "words"),
    {
        "a network": ({"model": small(3, (6, 6, 1))}, "model='FILE.keras'"),
        "a dataset": ({"data": SET, "test": SET}, "a tf.data.Dataset can't be given"),
        "a set twice": ({"data": "embedded", "dataset": "cifar10"}, "is given beside data"),
        "a folder beside arrays": ({"data": (X, Y), "data_dir": "imgs"}, "is given beside data"),
        "a set in a file of flags": ({"data": PAIR, "flagfile": FLAGFILE}, "is given beside data"),
        "tests alone": ({"test": TEST}, "test is given beside the data set"),
        "labels": ({"data": (X, Y[:3])}, "y_train has shape"),
        "a flag": ({"epoch": 2}, "no flag 'epoch'; did you mean 'epochs'"),
    }.values(),
)
def test_what_a_comparison_does_not_take(given, words, tmp_path):
    with pytest.raises(UserError, match=words):
        tfcredit.compare(["backprop"], compare_dir=tmp_path / "none", **given)
    assert not (tmp_path / "none").exists()
