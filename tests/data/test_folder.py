"""Image files in folders: which are found, what becomes of them, which are refused."""

import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfcredit import data
from tfcredit.data import Shard, folder_index
from tfcredit.errors import UserError

SIZE = 8


def picture(path, value=None, mode="RGB", **options):
    """Writes a picture of 12 x 10 pixels of one shade, or a random one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(len(path.name))
    pixels = random.randint(0, 256, (10, 12, 3)) if value is None else np.full((10, 12, 3), value)
    image = Image.fromarray(pixels.astype(np.uint8))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(path, **options)
    return path


@pytest.fixture
def tree(tmp_path):
    """12 training images of the classes ant and bee, shades 0 to 110, and 5 test images."""
    root = tmp_path / "images"
    for number in range(12):
        picture(root / "train" / ("ant", "bee")[number % 2] / f"{number:02}.png", 10 * number)
    for number in range(5):
        picture(root / "val" / ("ant", "bee")[number % 2] / f"{number:02}.png", 200 + 10 * number)
    return root


def build(root, **options):
    return data.get("folder", root, image_size=SIZE, **options)


def shades(images):
    """The shade of images of one shade, as they were before they were normalised."""
    return np.round((images[:, 4, 4, 0] * 0.229 + 0.485) * 255).astype(int)


def seen(dataset):
    """The shades and labels of batches, padding left out."""
    found = []
    for images, labels, *weights in dataset.as_numpy_iterator():
        shown = weights[0] > 0 if weights else np.full(len(labels), True)
        found += zip(shades(images[shown]).tolist(), labels[shown].tolist(), strict=True)
    return found


def test_a_folder_is_a_class(tree):
    found = build(tree)
    assert (found.classes, found.class_names) == (2, ("ant", "bee"))
    assert (found.train_examples, found.test_examples) == (12, 5)
    assert found.input_shape == (SIZE, SIZE, 3) and str(tree) in found.chosen_because
    expected = [(10 * n, n % 2) for n in range(12)]
    assert sorted(seen(found.train(4, seed=0, epoch=0))) == expected
    tested = seen(found.evaluation(batch_size=4))
    assert sorted(tested) == [(200, 0), (210, 1), (220, 0), (230, 1), (240, 0)]
    assert [label for _, label in tested] != [0, 0, 0, 1, 1]  # a batch has images of many classes


def test_order_follows_from_seed_and_epoch_on_any_number_of_hosts(tree):
    found = build(tree, augment=False)
    whole = seen(found.train(4, seed=0, epoch=0))
    assert seen(found.train(4, seed=0, epoch=1)) != whole != seen(found.train(4, seed=1, epoch=0))
    hosts = [seen(found.train(4, 0, 0, shard=Shard(index, 2))) for index in (0, 1)]
    joined = [hosts[host][2 * step + i] for step in range(3) for host in (0, 1) for i in (0, 1)]
    assert joined == whole
    assert seen(found.evaluation(4, Shard(1, 2))) == seen(found.evaluation(4))[1::2]


def test_an_epoch_that_starts_later_gives_the_same_pixels(tree):
    for path in (tree / "train").rglob("*.png"):
        picture(path)
    found = build(tree)
    whole = [images for images, _ in found.train(4, seed=0, epoch=0).as_numpy_iterator()]
    rest = [images for images, _ in found.train(4, 0, 0, start_step=1).as_numpy_iterator()]
    np.testing.assert_array_equal(whole[1:], rest)
    again = next(found.train(4, seed=0, epoch=1).as_numpy_iterator())[0]
    assert not np.array_equal(np.sort(whole, None)[:50], np.sort(again, None)[:50])


def test_any_format_and_ending(tree):
    formats = {"x.JPEG": "RGB", "l.jpg": "L", "c.Jpg": "CMYK", "deep/er/x.PNG": "RGBA"}
    formats |= {"p.png": "P", "x.GIF": "P", "x.bmp": "RGB", "l.BMP": "L", "a.bmp": "RGBA"}
    for number, (name, mode) in enumerate(formats.items()):
        options = {"save_all": True, "append_images": [Image.new("RGB", (12, 10))]}  # frames
        options = options if name.endswith("GIF") else {}
        path, kind = tree / "val" / "ant" / name, "JPEG" if name == "c.Jpg" else None
        picture(path, 10 + 20 * number, mode, format=kind, **options)
    found = [shade for shade, _ in seen(build(tree).evaluation(14))]
    expected = [10 + 20 * number for number in range(len(formats))] + [200, 210, 220, 230, 240]
    assert np.abs(np.array(sorted(found)) - expected).max() <= 1  # JPEG rounds


def test_bits_beyond_eight_and_opacity_are_left_out(tree):
    folder, high = tree / "val" / "ant", np.full((10, 12), 77 * 257, np.uint16)
    Image.fromarray(high).save(folder / "grey16.png")
    colours = tf.io.encode_png(np.stack([high] * 3, -1))
    (folder / "colour16.png").write_bytes(colours.numpy())
    for mode in ("LA", "RGBA"):
        image = Image.new(mode, (12, 10), (77, 0) if mode == "LA" else (77, 77, 77, 0))
        image.save(folder / f"{mode}.png")
    found = [shade for shade, _ in seen(build(tree).evaluation(9))]
    assert sorted(found) == [77] * 4 + [200, 210, 220, 230, 240]


def test_classes_are_sorted_as_text(tree):
    for part in ("train", "val"):
        os.rename(tree / part / "ant", tree / part / "2")
        os.rename(tree / part / "bee", tree / part / "10")
    found = build(tree)
    assert found.class_names == ("10", "2")
    assert {label for shade, label in seen(found.evaluation(5)) if shade % 20 == 0} == {1}


@pytest.mark.parametrize("spoil", ["truncated", "link"])
def test_a_picture_that_is_cut_off_or_a_link_to_nothing_is_named(tree, spoil):
    path = picture(tree / "train" / "ant" / "x.jpg", quality=95)
    if spoil == "link":
        path.unlink()
        path.symlink_to(tree / "gone.jpg")
        words = "it can't be read, No such file or directory"
    else:
        path.write_bytes(path.read_bytes()[:-60])
        words = "it is no image that can be decoded"
    with pytest.raises(Exception, match="x.jpg is corrupt") as caught:
        list(build(tree, augment=False).train(13, 0, 0))
    assert words in str(data.failure(caught.value))
    found = build(tree, augment=False, max_corrupt_records=1)
    assert len(seen(found.train(13, 0, 0))) == 13


def test_one_tree_of_classes(tree):
    found = build(tree / "train")
    assert (found.class_names, found.train_examples, found.test_examples) == (("ant", "bee"), 12, 0)
    os.rename(tree / "train" / "ant", tree / "train" / "train")  # a class called so
    assert build(tree / "train").class_names == ("bee", "train")


def test_hidden_names_do_not_count(tree):
    picture(tree / ".cache" / "x.png")
    picture(tree / "train" / ".git" / "x.png")
    picture(tree / "train" / "ant" / "x.png").rename(tree / "train" / "ant" / ".x.png")
    (tree / "train" / "README").write_text("of the set")
    found = build(tree)
    assert (found.class_names, found.train_examples) == (("ant", "bee"), 12)


def zebra(tree):
    picture(tree / "val" / "zebra" / "x.png")


def empty(tree):
    (tree / "train" / "cat").mkdir()


def no_images(tree):
    for path in tree.rglob("*.png"):
        path.unlink()


def missing(tree):
    os.rename(tree, tree.with_name("elsewhere"))


def other_ending(tree):
    (tree / "train" / "ant" / "x.webp").write_text("")


def beside(tree):
    picture(tree / "train" / "x.png")


def one_class(tree):
    for part in ("train", "val"):
        os.rename(tree / part / "bee", tree / part / "ant" / "bee")


def no_train(tree):
    os.rename(tree / "train", tree / "test")


def loop(tree):
    (tree / "train" / "ant" / "again").symlink_to(tree / "train")


def lost_class(tree):
    (tree / "train" / "cat").symlink_to(tree / "gone")


def lost_folder(tree):
    (tree / "train" / "ant" / "more").symlink_to(tree / "gone")


def webp(tree):
    for path in tree.glob("*/*/*.png"):
        path.rename(path.with_suffix(".webp"))


def names_of_others(train, validation):
    def rename(tree):
        (tree / "val").rename(tree / validation)
        (tree / "train").rename(tree / train)

    return rename


def twice(tree):
    (tree / "valid").mkdir()


@pytest.mark.parametrize("name", ["validation", "valid"])
def test_other_names_of_the_validation_part(tree, name):
    expected = build(tree)
    (tree / "val").rename(tree / name)
    found = build(tree)
    assert found.test_examples == expected.test_examples > 0
    assert found.class_names == expected.class_names


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (zebra, "val holds the class 'zebra', of which .*train has no images: add"),
        (empty, "cat is the folder of a class but holds no image: put"),
        (webp, "holds files that end in .webp, but no images that end in .jpg .*: convert"),
        (names_of_others("Train", "Val"), "holds Train and Val, which look like parts"),
        (names_of_others("train", "Valid"), "holds Valid and train, .* names of parts are train"),
        (twice, "holds val and valid, which mean the same: leave one"),
        (no_images, "images/train holds no images in folders of classes: give"),
        (missing, "images is missing, but a folder of images was expected: check data_dir"),
        (other_ending, "x.webp is corrupt .its ending is none of .jpg .*mend"),
        (beside, "train/x.png lies beside the folders of the classes"),
        (one_class, "holds one class, 'ant', but at least 2"),
        (no_train, "holds test and val but no train"),
        (loop, "ant is a link to a folder above it"),
        (lost_class, "train/cat is a link that leads nowhere: mend or remove it"),
        (lost_folder, "ant/more is a link that leads nowhere"),
    ],
)
def test_refused(tree, spoil, told):
    spoil(tree)
    with pytest.raises(UserError, match=told):
        build(tree)


def test_a_file_that_is_no_image_is_named_when_it_is_decoded(tree):
    path = tree / "train" / "ant" / "00.png"
    path.write_text("no image")
    with pytest.raises(Exception, match="00.png is corrupt") as caught:
        list(build(tree).train(4, 0, 0))
    assert "it is no image that can be decoded" in str(data.failure(caught.value))
    found = build(tree, max_corrupt_records=1)
    assert len(seen(found.train(4, 0, 0))) == 12
    assert [entry[:2] for entry in found.corrupt] == [(str(path), None)]


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Every tree counts as large and, once it is a moment old, as settled."""
    monkeypatch.setattr(folder_index, "LARGE", 1)
    monkeypatch.setattr(folder_index, "SETTLED", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    listed, plain = [], folder_index._listing
    monkeypatch.setattr(
        folder_index, "_listing", lambda path, stamp: listed.append(path.name) or plain(path, stamp)
    )
    return listed


def test_the_index_of_a_large_tree_is_kept_and_follows_changes(tree, large):
    build(tree)
    assert (tree / folder_index.CACHE).exists() and large.count("bee") == 2
    large.clear()
    assert build(tree).train_examples == 12 and large == ["images"]
    picture(tree / "train" / "bee" / "new.png")
    assert build(tree).train_examples == 13 and large == ["images", "images", "bee"]
    (tree / folder_index.CACHE).write_text(
        f'{{"version": {folder_index.VERSION}, "folders": {{"": 3}}}}'
    )
    assert build(tree).train_examples == 13


def test_an_index_that_can_not_lie_in_the_tree_lies_in_the_cache(tree, large, tmp_path):
    (tree / folder_index.CACHE).mkdir()  # root may write anywhere else
    build(tree)
    assert len(list((tmp_path / "cache" / "tfcredit").iterdir())) == 1
    large.clear()
    assert build(tree).train_examples == 12 and large == ["images"]


def test_images_that_are_held_out(tree):
    found = build(tree, augment=False).hold_out(4)
    held = seen(found.validation(batch_size=4))
    assert sorted(held + seen(found.train(4, seed=0, epoch=0))) == [
        (10 * n, n % 2) for n in range(12)
    ]
    os.rename(tree / "val", tree / "test")
    picture(tree / "validation" / "bee" / "x.png", 50)
    found = build(tree)
    assert (found.validation_examples, found.test_examples) == (1, 5)
    assert seen(found.validation(batch_size=1)) == [(50, 1)]
    with pytest.raises(UserError, match="has 1 validation images already, so 4 more"):
        found.hold_out(4)
