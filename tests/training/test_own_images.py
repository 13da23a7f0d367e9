"""Runs on a folder of images, judged by images that are held out."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tfcredit import cli, data
from tfcredit.comparison.folder import Comparison
from tfcredit.errors import UserError
from tfcredit.training.known_images import described, difference
from tfcredit.training.recipe import parse
from tfcredit.training.run_directory import RunDirectory

SMALL = ["--dataset=folder", "--model=fc", "--image_size=8", "--batch_size=8", "--epochs=2"]


def picture(path, bright, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 100, (9, 8, 3)) + 150 * bright
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def make_tree(root, classes=("dark", "light")):
    """24 training images and 10 of the test, which differ in brightness."""
    for part, count in (("train", 24), ("test", 10)):
        for number in range(count):
            picture(root / part / classes[number % 2] / f"{number}.JPEG", number % 2, number)
    return root


def train(tree, run, *flags):
    return cli.train_main([*SMALL, f"--data_dir={tree}", f"--run_dir={run}", *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tree, the directory of a run with held-out images, and how often test images were read."""
    folder = tmp_path_factory.mktemp("own")
    tree, reads, plain = make_tree(folder / "images"), [], data.ImageData.evaluation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            data.ImageData,
            "evaluation",
            lambda self, *shard: reads.append(self.name) or plain(self, *shard),
        )
        assert train(tree, folder / "run", "--validation_examples=8") == 0
    return tree, folder / "run", len(reads)


def test_test_images_are_read_once_at_the_end(trained):
    _, run, reads = trained
    assert reads == 1
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]  # of the 16 images that are left
    assert "test_top1" not in rows[0]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["validation_top1"] == float(rows[-1]["validation_top1"])
    best = max(rows, key=lambda row: float(row["validation_top1"]))
    assert summary["best_top1"] == float(best["validation_top1"])
    assert summary["best_step"] == int(best["step"])
    assert {"top1", "top5", "loss"} <= set(summary) and "8 training images are held" in str(summary)


def test_names_of_classes_are_kept(trained, tmp_path, capsys):
    _, run, _ = trained
    assert RunDirectory(run).class_names() == ("dark", "light")
    other = make_tree(tmp_path / "other", ("dark", "bright"))
    assert train(other, run, "--validation_examples=8", "--resume=must") == 2
    assert "differ in 'bright': give the images" in capsys.readouterr().err
    assert cli.train_main(["--mode=evaluate", f"--run_dir={run}", f"--data_dir={other}"]) == 2
    assert "differ in 'bright': give the images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_does_not_go_on_with_more_images(tmp_path, capsys):
    tree, run = make_tree(tmp_path / "images"), tmp_path / "run"
    flags = ["--validation_examples=8", "--resume=auto"]
    assert train(tree, run, *flags) == train(tree, run, *flags) == 0
    numbers = json.loads((run / "images.json").read_text())
    assert (numbers["training"], numbers["validation"], numbers["test"]) == (16, 8, 10)
    capsys.readouterr()
    picture(tree / "train" / "dark" / "more.png", 0, 99)
    assert train(tree, run, *flags) == 2
    told = capsys.readouterr().err
    assert "a run with 16 training images, but there are 17 now" in told
    # Those that are held out now are others: some of them were learned.
    assert cli.main(["evaluate", f"--model={run}", f"--data_dir={tree}"]) == 2
    assert "there are 17 now" in capsys.readouterr().err
    assert cli.main(["evaluate", f"--model={run}", f"--data_dir={tree / 'test'}"]) == 0


def test_a_run_does_not_go_on_with_as_many_other_images(trained, tmp_path, capsys):
    tree, run, _ = trained
    run, flags = shutil.copytree(run, tmp_path / "run"), ["--validation_examples=8"]
    tree = shutil.copytree(tree, tmp_path / "images")
    (run / "summary.json").unlink()
    assert train(tree, run, *flags, "--resume=must") == 0  # in another place, but the same
    odd = tree / "test" / "dark" / "0.JPEG"
    odd.rename(odd.with_stem("other"))
    assert train(tree, run, *flags, "--resume=must") == 2
    told = capsys.readouterr().err
    assert "a run with other test images: as many, but their names or classes" in told
    numbers = json.loads((run / "images.json").read_text())
    early = {part: numbers[part] for part in ("training", "validation", "test")}
    (run / "images.json").write_text(json.dumps(early))  # as earlier versions have it
    assert train(tree, run, *flags, "--resume=must") == 0


def test_the_images_of_a_comparison_or_search_stay_the_same(trained, tmp_path):
    tree, _, _ = trained
    images = described(data.get("folder", tree, image_size=8))
    recipe, _ = parse(SMALL)
    with Comparison(tmp_path / "one", recipe, ["fixed"], 1, images).locked():
        Comparison(tmp_path / "one", recipe, ["fixed"], 1, images).prepare()
    other = images | {"fingerprints": images["fingerprints"] | {"training": "0"}}
    for known in (images, None):
        Comparison(tmp_path / "one", recipe, ["fixed"], 1, known).check()
    with pytest.raises(UserError, match="a comparison with other training images"):
        Comparison(tmp_path / "one", recipe, ["fixed"], 1, other).check()
    # What changes while it is at work is seen by the run that starts then.
    RunDirectory(tmp_path / "run").expect_images(other)
    RunDirectory(tmp_path / "run").check(recipe)
    with pytest.raises(UserError, match="holds a run with other training images"):
        RunDirectory(tmp_path / "run").keep_images(data.get("folder", tree, image_size=8))


@pytest.mark.slow
def test_paths_of_a_run_hold_in_any_working_directory(trained, tmp_path, monkeypatch):
    tree, _, _ = trained
    (tmp_path / "images").symlink_to(tree)
    monkeypatch.chdir(tmp_path)
    assert train("images", "run", "--validation_examples=8", "--epochs=0.5") == 0
    monkeypatch.chdir("/")
    assert cli.main(["evaluate", f"--model={tmp_path / 'run'}"]) == 0
    assert cli.train_main([f"--run_dir={tmp_path / 'run'}", "--mode=evaluate"]) == 0
    again = ["--resume=must", "--dataset=folder", "--data_dir=images", "--run_dir=run"]
    monkeypatch.chdir(tmp_path)
    assert cli.train_main([f"--flagfile={tmp_path / 'run' / 'flags.txt'}", *again]) == 0


@pytest.mark.slow
def test_one_tree_needs_held_out_images(trained, tmp_path, capsys):
    tree, _, _ = trained
    assert train(tree / "train", tmp_path / "run") == 2
    assert "holds training images only" in (told := capsys.readouterr().err)
    assert "--validation_examples=N" in told and not (tmp_path / "run").exists()
    assert train(tree / "train", tmp_path / "run", "--validation_examples=8", "--steps=1") == 2
    flags = ["--validation_examples=8", "--epochs=1"]
    assert train(tree / "train", tmp_path / "run", *flags) == 0
    assert "validation top-1" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["part"] == "validation" and summary["top1"] == summary["validation_top1"]
    assert cli.main(["evaluate", f"--model={tmp_path / 'run'}"]) == 0
    assert f"on 8 validation images of 'folder': top-1 {summary['top1']:.4f}" in (
        capsys.readouterr().out
    )


def test_a_split_larger_than_the_set_is_refused(trained, tmp_path, capsys):
    tree, _, _ = trained
    assert train(tree, tmp_path / "run", "--validation_examples=24") == 2
    assert "validation_examples 24 is not between 1 and 23" in capsys.readouterr().err


def test_numbers_count_where_images_have_names():
    known = {"training": 5, "validation": 0, "test": 2, "fingerprints": {"training": "a"}}
    assert "6 training images" in (difference({**known, "training": 6}, known) or "")
    assert "other training images" in difference(
        {**known, "fingerprints": {"training": "b"}}, known
    )
    # Shards, of which damaged files may have been left out; an earlier version; nothing.
    assert difference({**known, "training": 6, "fingerprints": {}}, known) is None
    assert difference({"training": 6, "validation": 0, "test": 2}, known) is not None
    assert difference({}, known) is None
