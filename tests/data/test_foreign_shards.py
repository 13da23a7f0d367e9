"""Shards of other tools: read, or refused with the cause."""

import struct

import numpy as np
import pytest
import tensorflow as tf

from tfcredit import data
from tfcredit.data.tfrecord import record_files
from tfcredit.errors import UserError

_masked = 0xA282EAD8


def feature(value):
    kinds = {bytes: ("bytes_list", "BytesList"), float: ("float_list", "FloatList")}
    key, kind = kinds.get(type(value[0]), ("int64_list", "Int64List"))
    return tf.train.Feature(**{key: getattr(tf.train, kind)(value=value)})


def example(label, image="image/encoded", key="image/class/label"):
    picture = tf.io.encode_jpeg(np.full((40, 40, 3), 90, np.uint8)).numpy()
    features = {image: feature([picture]), key: feature(label)}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(folder, part, examples, ending="", options=None):
    path = folder / f"{part}-00000-of-00001{ending}"
    with tf.io.TFRecordWriter(str(path), options) as file:
        for each in examples:
            file.write(each)
    return path


def both(folder, examples, **options):
    return [write(folder, part, examples, **options) for part in ("train", "validation")]


def read(folder, **options):
    found = data.get("imagenet", folder, image_size=32, **options)
    return sum(len(labels) for _, labels in found.train(1, 0, 0)), list(found.evaluation(2))


GOOD = [example([n]) for n in (1, 2, 3, 4)]


@pytest.mark.every(3)
@pytest.mark.parametrize("ending", ["", ".tfrecord", ".tfrecords", ".tfrec", ".record"])
def test_endings(tmp_path, ending):
    both(tmp_path, GOOD, ending=ending)
    (tmp_path / f"train-00000-of-00001{ending}.idx").write_text("an index of another tool")
    assert read(tmp_path)[0] == 4


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("method", ["GZIP", "ZLIB"])
@pytest.mark.parametrize("allowed", [0, 9])
def test_compressed(tmp_path, method, part, allowed):
    both(tmp_path, GOOD)
    write(tmp_path, part, GOOD, options=method)
    with pytest.raises(UserError, match=f"{part}-.* is compressed with {method}"):
        read(tmp_path, max_corrupt_records=allowed)


@pytest.mark.parametrize(
    "label, told",
    [([b"1"], "text or bytes"), ([1.0], "floats"), ([1, 2], "has 2 values")],
    ids=["text", "float", "two"],
)
def test_labels(tmp_path, label, told):
    both(tmp_path, [example(label)] * 4)
    with pytest.raises(UserError, match=f"label 'image/class/label' .*{told}"):
        read(tmp_path)


def test_a_later_label(tmp_path):
    both(tmp_path, [*GOOD[:2], example([b"n01440764"]), GOOD[3]])
    with pytest.raises((UserError, tf.errors.OpError), match="its label .* is of text or bytes"):
        read(tmp_path)


def test_other_keys_in_one_part(tmp_path):
    both(tmp_path, GOOD)
    write(tmp_path, "validation", [example([1], "image", "label")] * 4)
    with pytest.raises(UserError, match="expected to have the same"):
        read(tmp_path)
    write(tmp_path, "validation", [example([1], "picture", "class")] * 4)
    with pytest.raises(UserError, match="hold class, picture"):
        read(tmp_path)


def lengthened(path, record, more, is_checked=True):
    """Lets a record's header ask for more bytes, with the checksum that belongs to it or another.

    `more` may be negative, or "all" for the largest number and "none" for 0.
    """
    content, place = bytearray(path.read_bytes()), 0
    for _ in range(record):
        place += struct.unpack_from("<Q", content, place)[0] + record_files.FRAME_BYTES
    length = struct.unpack_from("<Q", content, place)[0]
    length = {"all": 2**64 - 1, "none": 0}[more] if isinstance(more, str) else length + more
    header = struct.pack("<Q", length)
    content[place : place + 8] = header
    if is_checked:
        content[place + 8 : place + 12] = struct.pack("<I", checksum(header))
    path.write_bytes(content)


def checksum(content):
    """The masked CRC-32C of TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _masked) & 0xFFFFFFFF


@pytest.mark.every(4)
@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize("more", [-200, -16, -1, "none", 1, 16, 700, 1 << 40, "all"])
def test_any_damaged_length(tmp_path, more, is_checked):
    """Whether it leads to an earlier place, into a later record or out of the file."""
    train, _ = both(tmp_path, GOOD)
    lengthened(train, 1, more, is_checked)
    with pytest.raises((UserError, tf.errors.OpError), match=r"train-00000|damaged|truncated|cut"):
        read(tmp_path)
    found = data.get("imagenet", tmp_path, image_size=32, max_corrupt_records=99)
    assert sum(len(labels) for _, labels in found.train(1, 0, 0)) >= 1
    assert {each.record for each in found.corrupt} >= {1}


@pytest.mark.every(4)
@pytest.mark.parametrize("more", [1, 8, 1 << 20, (1 << 62)])
@pytest.mark.parametrize("record", [0, 2, 3])
def test_a_length_beyond_the_file(tmp_path, record, more):
    train, _ = both(tmp_path, GOOD)
    lengthened(train, record, more)
    if record == 3 or more > 100:  # else it ends in a later record, whose checksum tells
        assert record_files.whole_records(str(train)) == record
    with pytest.raises((UserError, tf.errors.OpError)):
        read(tmp_path)
    if record:
        found = data.get("imagenet", tmp_path, image_size=32, max_corrupt_records=9)
        list(found.train(1, 0, 0))
        assert {each.record for each in found.corrupt} >= {record}
