"""Corrupt images and damaged files, through the whole pipeline."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tfcredit import data
from tfcredit.data import Shard, encoded, imagenet
from tfcredit.errors import UserError

SIZE = 8
TRAIN_SIZES = (4, 5, 6)


def build(folder, **options):
    return imagenet.build(folder, image_size=SIZE, shuffle_buffer=4, **options)


def content(path):
    return list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())


def spoil(folder, part, file, numbers):
    """Damages the image, not the frame, of some records of a file."""
    (path,) = folder.glob(f"{part}-{file:05d}-*")
    records = content(path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, record in enumerate(records):
            if number in numbers:
                # Parsed, as the order of an Example's fields is not always the same.
                example = tf.train.Example.FromString(record)
                image = example.features.feature["image/encoded"].bytes_list.value
                image[0] = b"\xff\xd8\xff" + bytes(50)
                record = example.SerializeToString()
            writer.write(record)
    return str(path)


@pytest.fixture
def folder(shards, tmp_path):
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.fixture
def spoiled(folder):
    """Two images of the second training file and one of the first test file are corrupt."""
    train, test = spoil(folder, "train", 1, [0, 3]), spoil(folder, "validation", 0, [1])
    return folder, {(train, 0), (train, 3)}, {(test, 1)}


def elements(dataset):
    return [[part.numpy() for part in element] for element in dataset]


def failing(dataset):
    with pytest.raises(tf.errors.OpError) as caught:
        list(dataset)
    return data.failure(caught.value)


def test_the_first_corrupt_image_stops_by_default(spoiled, capfd):
    folder, bad, _ = spoiled
    told = failing(build(folder).train(5, 0, 0))
    assert isinstance(told, UserError)
    (path,) = {path for path, _ in bad}
    assert f"of {path} is corrupt (its image can't be decoded), number 1" in str(told)
    assert str(told).endswith("mend the file or raise max_corrupt_records.")
    assert "\n" not in str(told)
    assert f"of {path}: its image can't be decoded." in capfd.readouterr().err


@pytest.mark.slow
def test_up_to_the_limit_they_are_counted_and_left_out(spoiled, capfd):
    folder, bad, bad_tests = spoiled
    found = build(folder, max_corrupt_records=3)
    for epoch in range(2):
        seen = elements(found.train(5, 0, epoch))
        assert [len(labels) for _, labels in seen] == [5, 5, 5]
        assert {entry[:2] for entry in found.corrupt} == bad
        # Labels 4 and 7 are those of the corrupt images.
        assert not {4, 7} & set(np.concatenate([labels for _, labels in seen]))
        assert all((images != 0).any((1, 2, 3)).all() for images, _ in seen)
    ((images, labels, weights),) = elements(found.evaluation(5))
    assert weights.tolist() == [1, 0, 1, 1, 1] and labels.tolist() == [0, 0, 2, 3, 4]
    assert (images[1] == 0).all()
    assert {entry[:2] for entry in found.corrupt} == bad | bad_tests
    # A line for each, once; the JPEG library may add its own, and the last test's threads theirs.
    told = re.findall(rf"corrupt: record \d+ of {re.escape(str(folder))}/", capfd.readouterr().err)
    assert len(told) == 3


def test_one_more_than_the_limit_stops(spoiled):
    folder, bad, _ = spoiled
    found = build(folder, max_corrupt_records=1)
    assert "number 2 where at most 1 were allowed" in str(failing(found.train(5, 0, 0)))
    assert {entry[:2] for entry in found.corrupt} == bad
    assert failing(found.train(5, 0, 0)) is not None  # and stays stopped


@pytest.mark.slow
@pytest.mark.parametrize("start", [2, 1, 3])
@pytest.mark.parametrize("shard", [Shard(), Shard(0, 1, 2)])
def test_positions_stay_exact(spoiled, shard, start):
    folder, *_ = spoiled
    whole = elements(build(folder, max_corrupt_records=2).train(4, 3, 1, 0, shard))
    rest = elements(build(folder, max_corrupt_records=2).train(4, 3, 1, start, shard))
    for left, right in zip(whole[start * shard.pieces :], rest, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def test_other_images_are_the_same_as_without_corruption(shards, spoiled):
    folder, *_ = spoiled
    clean = elements(build(shards).train(5, 3, 1))
    mended = elements(build(folder, max_corrupt_records=2).train(5, 3, 1))
    for left, right in zip(clean, mended, strict=True):
        good = ~np.isin(left[1], [4, 7])
        np.testing.assert_array_equal(left[0][good], right[0][good])


@pytest.mark.slow
def test_images_are_the_same_whether_decoded_together_or_singly(spoiled, monkeypatch):
    found = build(spoiled[0], max_corrupt_records=3)

    def read():
        return [*elements(found.evaluation(5)), *elements(found.train(5, 3, 1))]

    singly = read()
    monkeypatch.setattr(encoded, "MANY", 1)
    monkeypatch.setattr(encoded, "AT_ONCE", 2)  # of 5 images: the last is alone
    assert singly[0][2].sum() == 4
    for one, other in zip(singly, read(), strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_piece_without_any_good_image_is_told(folder):
    for file, size in enumerate(TRAIN_SIZES):
        spoil(folder, "train", file, range(size))
    told = failing(build(folder, max_corrupt_records=99).train(5, 0, 0))
    assert "all 5 images of a piece of the batch are corrupt" in str(told)


def test_a_record_of_another_kind_is_corrupt(folder):
    path = folder / "train-00001-of-00003"
    records = content(path)
    records[2] = b"no example"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    found = build(folder, max_corrupt_records=1)
    list(found.train(5, 0, 0))
    assert [entry[:2] for entry in found.corrupt] == [(str(path), 2)]


def damage(path, kind):
    """Cuts a file or changes a byte; returns the records that are lost."""
    records = content(path)
    starts = np.cumsum([0] + [len(record) + 16 for record in records])
    whole = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(whole[: starts[-1] - 5])
        return [len(records) - 1]
    whole[starts[2] + (12 if kind == "content" else 8)] ^= 1  # after or in the length's checksum
    path.write_bytes(whole)
    return list(range(2, len(records)))


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", ["cut", "content", "length"])
def test_a_damaged_file_loses_what_follows_and_says_so(folder, kind):
    path = folder / "train-00002-of-00003"
    lost = damage(path, kind)
    if kind == "cut":
        with pytest.raises(UserError, match="ends in the middle of record 6"):
            build(folder)
    else:
        told = str(failing(build(folder).train(5, 0, 0)))
        assert f"record 2 of {path} is corrupt (the file is cut or damaged at byte" in told
    found = build(folder, max_corrupt_records=len(lost))
    whole = elements(found.train(5, 0, 0))
    assert len(whole) == 3
    assert {entry[:2] for entry in found.corrupt} == {(str(path), number) for number in lost}
    rest = elements(build(folder, max_corrupt_records=9).train(5, 0, 0, start_step=2))
    np.testing.assert_array_equal(whole[2][0], rest[0][0])


def test_a_damaged_test_file_is_evaluated_in_part(folder):
    lost = damage(folder / "validation-00001-of-00002", "content")
    found = build(folder, max_corrupt_records=len(lost))
    seen = elements(found.evaluation(3))
    assert sum(weights.sum() for *_, weights in seen) == 4
    assert len(seen) == 2 and len(found.corrupt) == 1


def test_a_file_that_vanishes_is_told(folder):
    found = build(folder, max_corrupt_records=99)
    (folder / "train-00001-of-00003").unlink()
    assert "train-00001-of-00003 can't be read" in str(failing(found.train(5, 0, 0)))


@pytest.mark.parametrize(("label", "shown"), [(0, "has label 0, but 1 to 1000"), (1001, "1001")])
def test_labels_of_another_set_are_told(folder, label, shown):
    path = folder / "train-00000-of-00003"
    records = content(path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            example = tf.train.Example.FromString(record)
            example.features.feature["image/class/label"].int64_list.value[0] = label
            writer.write(example.SerializeToString())
    told = str(failing(build(folder, max_corrupt_records=99).train(5, 0, 0)))
    assert shown in told and "of 1000 classes: give the files of the set" in told


def test_a_negative_limit_is_told(folder):
    with pytest.raises(UserError, match="max_corrupt_records -1 is negative"):
        build(folder, max_corrupt_records=-1)


def test_other_errors_are_not_the_data_s():
    assert data.failure(ValueError("x")) is None
    assert data.failure(tf.errors.UnavailableError(None, None, "worker 1 is gone")) is None
    told = UserError("x.")
    assert data.failure(told) is told


def test_a_first_record_without_features_is_one_corrupt_record(folder):
    path = folder / "train-00000-of-00003"
    records = content(path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for kept in (b"junk", *records[1:]):
            writer.write(kept)
    built = build(folder, max_corrupt_records=1)
    list(built.train(15, seed=0, epoch=0))
    assert [found[:2] for found in built.corrupt] == [(str(path), 0)]
