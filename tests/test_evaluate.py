"""`tfcredit evaluate`: networks of files, runs and checkpoints on sets of images."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.convert.reference_writer import authors_values, write_checkpoint
from tests.data.conftest import record
from tests.training.test_own_images import make_tree, train
from tfcredit import cli, convert, data, models
from tfcredit.errors import UserError
from tfcredit.evaluate.evaluating import of_images
from tfcredit.training.recipe import Recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tree of images and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("evaluated")
    tree = make_tree(folder / "images")
    assert train(tree, folder / "run", "--validation_examples=8", "--keep=1") == 0
    return tree, folder / "run"


def evaluate(model, output, *flags):
    code = cli.main(["evaluate", f"--model={model}", f"--output={output}", *flags])
    return code, json.loads(output.read_text()) if output.exists() else None


def test_a_run_takes_its_flags(trained, tmp_path):
    _, run = trained
    code, found = evaluate(run, tmp_path / "found.json")
    summary = json.loads((run / "summary.json").read_text())
    assert code == 0 and (found["examples"], found["part"]) == (10, "test")
    for name in ("top1", "top5", "loss"):
        assert found[name] == pytest.approx(summary[name], rel=1e-5)


@pytest.mark.slow
def test_checkpoints_of_a_run_and_other_images(trained, tmp_path, capsys):
    tree, run = trained
    summary = json.loads((run / "summary.json").read_text())
    _, best = evaluate(run / "checkpoints" / "best", tmp_path / "best.json")
    assert best["step"] == summary["best_step"]
    _, last = evaluate(run / "checkpoints" / "ckpt-4", tmp_path / "last.json")
    assert last["loss"] == pytest.approx(summary["loss"], rel=1e-5)
    flags = ["--dataset=folder", f"--data_dir={tree / 'train'}"]
    _, whole = evaluate(run, tmp_path / "whole.json", *flags)
    assert whole["examples"] == 24  # all images of a folder without parts
    assert "top-1" in capsys.readouterr().out


@pytest.mark.slow
def test_files_of_a_run_have_its_flags_and_need_not_its_images(trained, tmp_path, capsys):
    tree, run = trained
    _, whole = evaluate(run, tmp_path / "whole.json")
    _, file = evaluate(run / "model.keras", tmp_path / "file.json")
    assert (file["examples"], file["loss"]) == (whole["examples"], whole["loss"])
    moved = shutil.copytree(run, tmp_path / "moved")
    flags = (moved / "flags.txt").read_text().replace(str(tree), str(tmp_path / "nowhere"))
    (moved / "flags.txt").write_text(flags)
    for place in ("checkpoints/best", "checkpoints", "model.keras"):
        code, found = evaluate(moved / place, tmp_path / "new.json", f"--data_dir={tree / 'test'}")
        assert code == 0 and found["examples"] == 10
    assert cli.train_main([f"--run_dir={moved}", "--mode=export"]) == 0
    code, _ = evaluate(moved / "export" / "backprop.keras", tmp_path / "no.json")
    assert code == 2 and f"{tmp_path / 'nowhere'} is missing" in capsys.readouterr().err


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_any_classifier_of_keras_gives_what_keras_gives(tmp_path, activation, trained):
    tree, _ = trained
    network = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation=activation),
        ]
    )
    network.save(tmp_path / "own.keras")
    flags = ["--dataset=folder", f"--data_dir={tree}", "--image_size=8"]
    code, found = evaluate(tmp_path / "own.keras", tmp_path / "found.json", *flags)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    network.compile(loss=loss, metrics=["accuracy"])
    images = data.get("folder", tree, image_size=8)
    expected = network.evaluate(images.evaluation(10), verbose=0, return_dict=True)
    assert code == 0 and found["examples"] == 10
    assert found["top1"] == pytest.approx(expected["accuracy"])
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["outputs"] == ("logits" if activation is None else "probabilities")


def other_task(folder):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)]).save(folder / "x.keras")


def other_classes(folder):
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    keras.Sequential(layers).save(folder / "x.keras")


def grey(folder):
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(folder / "x.keras")


def unknown_layers(folder):
    class Own(keras.layers.Dense):
        pass

    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), Own(2)]
    keras.Sequential(layers).save(folder / "x.keras")


def no_file(folder):
    pass


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (other_task, "is no classifier, as its outputs have the shapes [(None, 6, 6, 2)]"),
        (other_classes, "tells 5 classes apart, but the images of 'folder' have 2"),
        (grey, "images have shape (8, 8, 3), but"),
        (unknown_layers, "can't be loaded ("),
        (no_file, "x.keras is missing"),
    ],
)
def test_what_does_not_fit_is_refused(trained, tmp_path, capsys, make, told):
    tree, _ = trained
    make(tmp_path)
    flags = ["--dataset=folder", f"--data_dir={tree}"]
    code, found = evaluate(tmp_path / "x.keras", tmp_path / "found.json", *flags)
    assert (code, found) == (2, None)
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model=runs"], "runs is no saved network: give"),
        (["--model=x.keras", "--output=x.csv"], "must end in .json"),
        (["--model=x.keras", "--output=missing/x.json"], "folder missing is missing"),
        (["--model=x.keras", "--rule=backprop"], "unrecognized arguments: --rule=backprop"),
        (["--model=x.keras", "--image_size=2"], "--image_size=2 must be at least 8"),
        ([], "required: --model"),
    ],
)
def test_wrong_flags(flags, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *flags]) == 2
    assert told in capsys.readouterr().err


def test_classes_of_other_names_are_refused(trained, tmp_path, capsys):
    _, run = trained
    other = make_tree(tmp_path / "other", ("dark", "bright"))
    code, _ = evaluate(run, tmp_path / "found.json", f"--data_dir={other}")
    assert code == 2 and "differ in 'bright'" in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()


def test_images_are_prepared_as_the_network_needs_them():
    run = Recipe(dataset="imagenet", data_dir="D", preprocessing="inception", model="resnet18")
    found = of_images(run, {"dataset": "folder", "data_dir": "E"}, (96, 96, 3))
    assert (found.data_dir, found.preprocessing, found.image_size) == ("E", "inception", 96)
    again = of_images(run, {"data_dir": "E"}, (None, None, 3))
    assert (again.dataset, again.data_dir, again.image_size) == ("imagenet", "E", None)
    with pytest.raises(UserError, match="--data_dir=E needs --dataset"):
        of_images(Recipe(dataset="embedded"), {"data_dir": "E"}, (28, 28, 1))


def test_images_that_a_run_has_learned_are_left_out_where_its_own_folder_is_given(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    run = Recipe(dataset="folder", data_dir=str(tmp_path), validation_examples=8)
    for own in (tmp_path, f"{tmp_path}/", tmp_path / "link"):
        assert of_images(run, {"data_dir": str(own)}, (8, 8, 3)).validation_examples == 8
    found = of_images(run, {"data_dir": str(tmp_path / "others")}, (8, 8, 3))
    assert found.validation_examples is None


SAVE = """
import sys

import keras

keras.utils.set_random_seed(1)
options = {"alpha": 0.25, "weights": None, "classes": 2}
keras.applications.MobileNet(input_shape=(32, 32, 3), **options).save(sys.argv[1])
"""


@pytest.mark.slow
def test_a_network_of_another_process_trains_on_to_what_keras_gives(trained, tmp_path):
    """A run that starts from its weights and learns nothing is as good as Keras finds it."""
    tree, file = trained[0], tmp_path / "net.keras"
    subprocess.run([sys.executable, "-c", SAVE, str(file)], check=True)
    flags = [f"--model={file}", f"--initial_weights={file}", "--rule=kolen_pollack"]
    flags += ["--bn_trainable=false", "--trainable=conv_preds", "--learning_rate=1e-9"]
    flags += ["--steps=1", "--batch_size=8", "--dataset=folder", f"--data_dir={tree}"]
    assert cli.train_main([*flags, f"--run_dir={tmp_path / 'run'}"]) == 0
    _, found = evaluate(tmp_path / "run", tmp_path / "found.json")
    _, plain = evaluate(file, tmp_path / "plain.json", "--dataset=folder", f"--data_dir={tree}")
    network = keras.saving.load_model(file)
    network.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images = data.get("folder", tree, image_size=32)
    expected = network.evaluate(images.evaluation(10), verbose=0, return_dict=True)
    for one in (found, plain):
        assert one["top1"] == pytest.approx(expected["accuracy"])
        assert one["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.slow
def test_an_imported_checkpoint_is_evaluated_on_a_miniature_imagenet(tmp_path):
    shards, random = tmp_path / "shards", np.random.default_rng(0)
    shards.mkdir()
    for part in ("train", "validation"):
        with tf.io.TFRecordWriter(str(shards / f"{part}-00000-of-00001")) as writer:
            for label in (1, 7, 300, 512, 1000):
                writer.write(record(random.integers(0, 256, (230, 240, 3), "uint8"), label))
    values = authors_values("resnet18")
    values |= {name: (v - 0.5) / 20 for name, v in values.items() if name.endswith("kernel")}
    prefix = write_checkpoint(tmp_path / "model.ckpt-450360", values)
    file = tmp_path / "resnet18.keras"
    assert cli.main(["import-reference", f"--checkpoint={prefix}", f"--output={file}"]) == 0
    flags = ["--dataset=imagenet", f"--data_dir={shards}"]
    code, found = evaluate(file, tmp_path / "found.json", *flags)
    network = convert.to_backprop(models.load(file))
    images = data.get("imagenet", shards)
    losses, hits = [], []
    for pictures, labels, weights in images.evaluation(5):
        logits = network(pictures).numpy()
        hits += list((logits.argmax(1) == labels.numpy())[weights.numpy() > 0])
        loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        losses += list(loss.numpy()[weights.numpy() > 0])
    assert code == 0 and found["examples"] == len(losses) == 5
    assert found["top1"] == pytest.approx(np.mean(hits))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
