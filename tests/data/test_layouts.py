"""ImageNet in every layout that people have it in: read in place, alike."""

import os
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tools.imagenet_layouts
from tests.data.conftest import record
from tests.data.layouts import LABELS, SYNSETS, train_pictures, validation_pictures, write
from tfcredit import cli, data, models
from tfcredit.data import Shard, imagenet
from tfcredit.data.layouts import archives, cache, official
from tfcredit.data.layouts.finding import find
from tfcredit.errors import UserError

IN_PLACE = ["folders", "flat", "kaggle", "zip", "parquet", "webdataset"]
SIZE = 8


def build(root, **options):
    return data.get("imagenet", root, image_size=SIZE, **options)


def batches(dataset):
    return [tuple(np.asarray(each) for each in batch) for batch in dataset]


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        for each, its in zip(one, other, strict=True):
            np.testing.assert_array_equal(each, its)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Layout -> its folder; Parquet files have row groups of 3."""
    before, tools.imagenet_layouts.ROW_GROUP = tools.imagenet_layouts.ROW_GROUP, 3
    root = tmp_path_factory.mktemp("layouts")
    yield {layout: write(layout, root / layout) for layout in IN_PLACE}
    tools.imagenet_layouts.ROW_GROUP = before


@pytest.fixture(scope="module")
def reference(samples):
    """An epoch and the evaluation of the folders by synset."""
    found = build(samples["folders"])
    return batches(found.train(4, seed=0, epoch=1)), batches(found.evaluation(4))


@pytest.mark.parametrize("layout", IN_PLACE)
@pytest.mark.every(3)
def test_each_layout_gives_the_same_batches(samples, reference, layout):
    found = data.get("auto", samples[layout], image_size=SIZE)
    assert (found.name, found.classes) == ("imagenet", 1000)
    assert (found.train_examples, found.test_examples) == (15, 6)
    assert "IMAGENET, because" in found.chosen_because
    trained, evaluated = reference
    assert_same(batches(found.train(4, seed=0, epoch=1)), trained)
    assert_same(batches(found.evaluation(4)), evaluated)
    assert not found.corrupt


def test_the_batches_are_those_of_the_images(samples):
    found = build(samples["folders"], augment=False)
    shown = {}
    for images, labels in batches(found.train(5, seed=0, epoch=0)):
        shown |= {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    for picture in train_pictures():
        image = found.source.preprocess.evaluation(picture.content, SIZE).numpy()
        assert shown.pop(image.tobytes()) == picture.label
    assert not shown
    labels = [int(label) for _, labels, weights in batches(found.evaluation(2)) for label in labels]
    assert sorted(labels) == sorted(picture.label for picture in validation_pictures())


def test_archives_are_read_in_place(tmp_path, reference, monkeypatch):
    root = write("archives", tmp_path / "archives")
    synsets = (root / "validation_labels.txt").read_text().split()
    with pytest.raises(UserError, match="6 images, but there are labels|labels for images 1 to"):
        build(root)

    def numbered(path, _):  # the labels of six images instead of 50,000
        with path.open("rb") as file:
            found = list(archives.members(file, path, 0, path.stat().st_size))
        known = official.numbers()
        return [
            (one.name.encode(), one.offset_data, one.size, known[synset.encode()])
            for one, synset in zip(found, synsets, strict=True)
        ]

    monkeypatch.setattr(archives, "index_validation", numbered)
    found = build(root)
    assert_same(batches(found.train(4, seed=0, epoch=1)), reference[0])
    assert_same(batches(found.evaluation(4)), reference[1])


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("layout", "buffer"),
    [
        ("parquet", 4),
        *(pytest.param("parquet", buffer, marks=SLOW) for buffer in (7, 15)),
        pytest.param("zip", 15, marks=SLOW),
    ],
)
@pytest.mark.slow
def test_resume_and_hosts_are_exact(samples, layout, buffer):
    found = build(samples[layout], shuffle_buffer=buffer)
    whole = batches(found.train(4, seed=3, epoch=1))
    assert_same(batches(found.train(4, seed=3, epoch=1, start_step=2)), whole[2:])
    hosts = [batches(found.train(4, 3, 1, shard=Shard(index, 2))) for index in (0, 1)]
    joined = [
        tuple(np.concatenate(parts) for parts in zip(*both, strict=True))
        for both in zip(*hosts, strict=True)
    ]
    assert_same(joined, whole)
    whole, half = found.evaluation(1), found.evaluation(2, Shard(1, 2))
    assert_same(batches(half), batches(whole)[1::2])


def test_row_groups_are_read_whole_but_shuffled(samples):
    found = build(samples["parquet"], shuffle_buffer=6, augment=False)
    images = found.source.train_images
    orders = [images.order(np.random.RandomState(seed), 6) for seed in range(20)]
    groups = images.groups()
    for order in orders:
        assert sorted(order) == list(range(15))
        for start in range(0, 15, 6):
            assert len(set(groups[order[start : start + 6]])) <= 3
    assert len({tuple(order) for order in orders}) == 20
    seen = [len(labels) for _, labels in found.train(3, seed=0, epoch=0)]
    assert sum(seen) == 15


@pytest.mark.parametrize("buffer", [4, 2048])
def test_held_out_images(samples, buffer):
    found = build(samples["parquet"], shuffle_buffer=buffer, augment=False).hold_out(4)
    assert (found.train_examples, found.validation_examples) == (11, 4)
    held = found.source.validation_images
    names = [*held.entries["name"], *found.source.train_images.entries["name"]]
    assert len(set(names)) == 15
    if buffer == 4:
        assert len(set(held.groups())) == 2  # of three images each
    assert sum(int(weights.sum()) for _, _, weights in batches(found.validation(3))) == 4


def test_shards_of_the_same_images_in_the_same_order_give_the_same_weights(samples, tmp_path):
    pictures = {"train": train_pictures(), "validation": validation_pictures()}
    for part, those in pictures.items():
        for number, some in enumerate((those[:4], those[4:])):
            path = tmp_path / f"{part}-{number:05d}-of-00002"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for picture in some:
                    example = tf.train.Example.FromString(record(np.zeros((1, 1, 3), "u1"), 0))
                    feature = example.features.feature
                    feature["image/encoded"].bytes_list.value[0] = picture.content
                    feature["image/class/label"].int64_list.value[0] = picture.label + 1
                    writer.write(example.SerializeToString())
    weights = []
    for root in (samples["folders"], tmp_path):
        keras.utils.set_random_seed(1)
        found = build(root)
        model = models.get("fc", found.classes, found.input_shape, rule="feedback_alignment")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
        model.fit(found.train(5, seed=0, epoch=1), shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for other in weights[1:]:
        assert_same([weights[0]], [other])


@pytest.mark.every(6)
@pytest.mark.parametrize("layout", ["webdataset", *IN_PLACE[:-1]])
def test_a_step_is_trained_with_one_command(samples, tmp_path, layout):
    flags = ["--dataset=imagenet", f"--data_dir={samples[layout]}", f"--run_dir={tmp_path / 'run'}"]
    flags += ["--model=fc", f"--image_size={SIZE}", "--steps=1", "--batch_size=4"]
    assert cli.run("train", [*flags, "--rule=feedback_alignment"], "tfcredit train") == 0
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_broken_image_is_named(samples, tmp_path):
    root = shutil.copytree(samples["kaggle"], tmp_path / "copy")
    name = f"{SYNSETS[0]}_11.JPEG"
    path = root / "ILSVRC/Data/CLS-LOC/train" / SYNSETS[0] / name
    path.write_bytes(b"")
    with pytest.raises(Exception, match=f"{name} is corrupt") as caught:
        list(build(root).train(4, 0, 0))
    assert "it is empty" in str(data.failure(caught.value))
    found = build(root, max_corrupt_records=1)
    assert len(batches(found.train(4, 0, 0))) == 3
    assert found.corrupt == [(str(path), None, "it is empty")]


def test_a_broken_member_of_a_zip_is_named(samples, tmp_path):
    root = shutil.copytree(samples["zip"], tmp_path / "copy")
    path = next(root.iterdir())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"ILSVRC/Data/CLS-LOC/train/{SYNSETS[1]}/{SYNSETS[1]}_12.JPEG")
    with path.open("r+b") as file:
        file.seek(member.header_offset + 30 + len(member.filename) + 20)
        file.write(bytes(60))
    found = build(root, max_corrupt_records=1)
    assert len(batches(found.train(5, 0, 0))) == 3
    told = f"{path}:{member.filename}", None, "its bytes are damaged or cut off"
    assert found.corrupt == [told]


@pytest.mark.every(2)
@pytest.mark.parametrize("layout", ["parquet", "webdataset"])
def test_a_file_that_is_gone_is_told_for_each_of_its_images(samples, tmp_path, layout):
    root = shutil.copytree(samples[layout], tmp_path / "copy")
    found = build(root, max_corrupt_records=15)
    path = next(path for path in sorted(root.rglob("*train*0*")) if path.is_file())
    path.unlink()
    list(found.train(15, 0, 0))
    assert {one.reason for one in found.corrupt} == {"it can't be read, No such file or directory"}
    assert len(found.corrupt) in (7, 8) and all(str(path) in one.file for one in found.corrupt)


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_as_zipfile_reads_it(samples, tmp_path, packed, monkeypatch):
    """Also with the fields of more than 4 GiB, and with extra fields of each entry."""
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(next(samples["zip"].iterdir())) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1500)
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.extra = b"UT\x05\x00\x03abcd" + b"xx\x58\x02" + bytes(600)
            archive.writestr(info, content, packed)
        archive.writestr(f"__MACOSX/train/{SYNSETS[0]}/._{SYNSETS[0]}_1.JPEG", b"of a Mac's zip")
    for part, images in find(path).index().items():
        assert len(images) == {"train": 15, "validation": 6}[part]
        read = images.read(np.arange(len(images)))
        names = [name.decode() for name in images.entries["name"]]
        assert read == [contents[name] for name in names]


def test_labels_of_each_layout_are_the_sorted_synsets(samples):
    for layout in IN_PLACE:
        for part, images in find(samples[layout]).index().items():
            pictures = {"train": train_pictures(), "validation": validation_pictures()}[part]
            assert images.entries["label"].tolist() == [one.label for one in pictures], layout
            assert images.read(np.arange(len(images))) == [one.content for one in pictures]
    assert [official.numbers()[one.encode()] for one in SYNSETS] == list(LABELS)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Every set counts as large and settled; lists the layouts whose index was read."""
    monkeypatch.setattr(cache, "LARGE", 1)
    monkeypatch.setattr(cache, "SETTLED", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    found, read = [], cache._read

    def watched(*rest):
        result = read(*rest)
        found.append(result is not None)
        return result

    monkeypatch.setattr(cache, "_read", watched)
    return found


@pytest.mark.every(3)
@pytest.mark.parametrize("layout", IN_PLACE)
def test_the_index_is_kept_and_follows_changes(samples, reference, tmp_path, kept, layout):
    root = shutil.copytree(samples[layout], tmp_path / "copy")
    build(root)
    assert not any(kept)
    found = build(root)
    assert kept[-1] and found.train_examples == 15
    assert_same(batches(found.train(4, seed=0, epoch=1)), reference[0])
    (file,) = root.rglob(cache.NAME)
    kept.clear()
    there = [path for path in root.rglob("*") if path != file]
    changed = [path for path in there if path.parent.name == "train"]
    changed = changed or [path for path in there if path.suffix in (".zip", ".parquet", ".tar")]
    os.utime(changed[0], ns=(1, 1))
    assert build(root).train_examples == 15 and not any(kept)
    file.write_bytes(file.read_bytes()[:-100])
    assert build(root).train_examples == 15


def test_an_index_of_other_files_does_not_count(samples, tmp_path, kept):
    one, other = (write("folders", tmp_path / name, n) for name, n in (("one", 5), ("other", 4)))
    assert build(one).train_examples == 15
    shutil.copy(one / cache.NAME, other / cache.NAME)
    assert build(other).train_examples == 12 and not any(kept)
    shutil.copy(one / cache.NAME, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        assert str(arrays["key"]).startswith(f'[{cache.VERSION}, "folders"')


def test_an_index_that_can_not_lie_beside_the_images_lies_in_the_cache(samples, tmp_path, kept):
    root = shutil.copytree(samples["webdataset"], tmp_path / "copy")
    (root / cache.NAME).mkdir()
    build(root)
    assert len(list((tmp_path / "home" / "tfcredit").iterdir())) == 1
    assert build(root).train_examples == 15 and kept[-1]


def test_options_are_checked(samples):
    for option in ("image_size", "shuffle_buffer"):
        with pytest.raises(UserError, match=f"{option} 0 is not positive"):
            imagenet.build(samples["parquet"], **{option: 0})
