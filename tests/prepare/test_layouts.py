"""Shards from every layout in which people have ImageNet."""

import json

import pytest

import tools.imagenet_layouts
from tests.data.layouts import train_pictures, validation_pictures, write
from tests.prepare.ilsvrc import files
from tests.prepare.test_prepare import records
from tfcredit.errors import UserError
from tfcredit.prepare import command as prepare
from tfcredit.prepare import shards


def run(source, output, *flags):
    few = ["--train_shards=2", "--validation_shards=1"]
    prepare.main([f"--source={source}", f"--output={output}", *few, *flags])
    return files(output)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The shards of folders by synset."""
    root = tmp_path_factory.mktemp("set")
    source = write("folders", root / "folders")
    return run(source, root / "shards")


@pytest.mark.parametrize("layout", ["flat", "kaggle", "zip", "parquet", "webdataset"])
def test_all_layouts_give_the_same_shards(tmp_path, expected, layout):
    made = run(write(layout, tmp_path / layout), tmp_path / "shards")
    assert made["SHA256SUMS"] == expected["SHA256SUMS"]


def test_the_shards_hold_the_images(tmp_path):
    run(write("parquet", tmp_path / "set"), tmp_path / "shards")
    for part, pictures in (("train", train_pictures()), ("validation", validation_pictures())):
        found = sum(records(tmp_path / "shards", part).values(), [])
        found = {one["image/filename"].decode(): one for one in found}
        assert len(found) == len(pictures)
        for picture in pictures:
            record = found[picture.name]
            assert record["image/encoded"] == picture.content
            assert record["image/class/label"] == picture.label + 1
            assert record["image/class/synset"].decode() == picture.synset


def test_archives_give_the_shards_of_folders(tmp_path, expected):
    source = tmp_path / "archives"
    source.mkdir()
    renamed = [
        picture._replace(name=f"ILSVRC2012_val_{number:08d}.JPEG")
        for number, picture in enumerate(validation_pictures(), 1)
    ]
    tools.imagenet_layouts.archives(source, train_pictures(), renamed)
    labels = source / "validation_labels.txt"
    made = run(source, tmp_path / "shards", f"--validation_labels={labels}")
    names = [name for name in expected if name.startswith("train-")]
    assert [made[name] for name in names] == [expected[name] for name in names] and len(names) == 2


def test_row_groups_are_read_for_few_shards_each(tmp_path, monkeypatch):
    monkeypatch.setattr(tools.imagenet_layouts, "ROW_GROUP", 3)
    monkeypatch.setattr(shards, "BLOCK", 4)
    run(write("parquet", tmp_path / "set"), tmp_path / "shards")
    found = sum(records(tmp_path / "shards", "train").values(), [])
    names = sorted(one["image/filename"].decode() for one in found)
    assert names == [picture.name for picture in train_pictures()]


def test_a_set_begun_with_other_images_is_refused(tmp_path):
    output = tmp_path / "shards"
    before = run(write("folders", tmp_path / "one"), output)
    other = write("folders", tmp_path / "other", per_class=4)
    with pytest.raises(UserError, match="was begun with images_sha256=.*another --output"):
        run(other, output)
    assert files(output) == before
    assert json.loads(before["prepare.json"])["images"] == {"train": 15, "validation": 6}


def test_a_set_begun_with_other_encodings_of_its_images_is_refused(tmp_path):
    source, output = write("folders", tmp_path / "one"), tmp_path / "shards"
    run(source, output)
    path = next((source / "train").rglob("*.JPEG"))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match="was begun with image_bytes=.*another --output"):
        run(source, output)
    plan = json.loads((output / "prepare.json").read_text())
    del plan["parameters"]["image_bytes"]  # as earlier versions wrote it
    (output / "prepare.json").write_text(json.dumps(plan))
    run(source, output)


def test_an_empty_image_is_named(tmp_path):
    source = write("folders", tmp_path / "set")
    path = next((source / "train").rglob("*.JPEG"))
    path.write_bytes(b"")
    with pytest.raises(UserError, match=f"{path.name} gives no image .it is empty.: mend or rem"):
        run(source, tmp_path / "shards")


@pytest.mark.parametrize("flag", ["--check_archives", "--validation_labels=labels.txt"])
def test_flags_of_the_archives_are_refused(tmp_path, flag):
    source = write("folders", tmp_path / "set")
    with pytest.raises(UserError, match="is for the archives of image-net.org, but .*folders by"):
        run(source, tmp_path / "shards", flag)


def test_a_source_without_images_is_told(tmp_path):
    for source in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="holds no ImageNet in a layout .*Kaggle's copy or its"):
            run(source, tmp_path / "shards")
