"""What a continued run leaves in event files, damaged ones among them."""

import struct

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfcredit.callbacks.steps import EVENTS, event_writer
from tfcredit.training import event_files
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.tensorboard import purge


@pytest.fixture
def file(tmp_path):
    """An event file of a point at each of the steps 0 to 3."""
    writer = event_writer(tmp_path / "events")
    with writer.as_default():
        for step in range(4):
            tf.summary.scalar("a", float(step), step)
    writer.close()
    (path,) = (tmp_path / "events").iterdir()
    return path


def shown(folder, tag="a"):
    """The steps that TensorBoard shows."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return [event.step for event in events.Tensors(tag)] if tag in events.Tags()["tensors"] else []


def places(content):
    """Where the records of a file begin."""
    found = [0]
    while found[-1] < len(content):
        found.append(found[-1] + struct.unpack_from("<Q", content, found[-1])[0] + 16)
    return found[:-1]


def test_points_that_are_written_again_go_and_others_stay(file):
    copy = file.with_name(file.name.replace(".tfevents.", ".tfevents.9"))  # a later one
    copy.write_bytes(file.read_bytes())
    assert len(shown(file.parent)) == 8
    assert event_files.purge(file.parent, lambda tag, step: step != 2) == {
        ("a", step) for step in (0, 1, 3)
    }
    assert shown(file.parent) == [0, 1, 3] and not copy.exists()
    assert event_files.purge(file.parent, lambda tag, step: False) == set()
    assert not list(file.parent.iterdir())


@pytest.mark.parametrize("record", [0, 2, 4])  # the first one is of no point
@pytest.mark.parametrize("more", [-(2**70), -200, -9, -1, 1, 9, 90, 500, 1 << 40, 1 << 62])
def test_a_damaged_length_ends_a_file(more, record, file):
    content = bytearray(file.read_bytes())
    place = places(content)[record]
    length = struct.unpack_from("<Q", content, place)[0] + more
    struct.pack_into("<Q", content, place, max(0, length))
    file.write_bytes(content)
    expected = {("a", step) for step in range(record - 1)}
    kept = event_files.purge(file.parent, lambda tag, step: True)
    assert kept == expected if record else not kept
    if record:
        assert shown(file.parent) == list(range(record - 1))


def test_files_of_others_stay(file):
    others = {"notes.txt": b"thesis", "a.tfevents.1": b"x" * 99, f"b.tfevents.2{EVENTS}": None}
    others |= {f"a.tfevents.1{EVENTS}": b"x" * 99, "d.tfevents.4.v2": b""}  # of an open writer
    for name, content in others.items():
        path = file.with_name(name)
        path.mkdir() if content is None else path.write_bytes(content)
    file.with_name(f"c.tfevents.3{EVENTS}").touch()  # of a process that was killed at once
    event_files.purge(file.parent, lambda tag, step: True)
    assert {path.name for path in file.parent.iterdir()} == {*others, file.name}


def test_what_other_writers_wrote_stays(file):
    """As of TensorFlow 1, PyTorch or a user's callback, by the end of their names; and graphs."""
    others = [file.with_name(file.name.removesuffix(EVENTS) + end) for end in ("", ".mine")]
    for other in others:
        other.write_bytes(file.read_bytes())
    own = tf.summary.create_file_writer(str(file.parent))
    with own.as_default():
        tf.summary.scalar("train/loss", 1.0, 3)
    own.close()
    others += [path for path in file.parent.iterdir() if path not in (file, *others)]
    assert len(others) == 3
    writer = event_writer(file.parent / "graph")
    with writer.as_default(0), tf.Graph().as_default() as graph:
        tf.constant(1.0)
    with writer.as_default(0):
        tf.summary.graph(graph)
    writer.close()
    (drawn,) = (file.parent / "graph").iterdir()
    drawn = drawn.rename(file.with_name(drawn.name))
    before = {path: path.read_bytes() for path in (*others, drawn)}
    event_files.purge(file.parent, lambda tag, step: False)
    assert {path: path.read_bytes() for path in file.parent.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("step", [0, 2])
def test_measures_stay_that_their_table_has(step, tmp_path):
    """It is written last, so what it has is not measured again, at the start neither."""
    directory = RunDirectory(tmp_path)
    directory.tensorboard.mkdir()
    directory.measures.write_text("step,layer,angle\n0,dense,60.0\n2,dense,50.0\n")
    writer = event_writer(directory.tensorboard)
    for at in (0, 2, 4):
        with writer.as_default(at):
            for tag in ("angle/dense", "R/dense", "test/top1"):
                tf.summary.scalar(tag, 1.0)
    writer.close()
    purge(directory, [], [], step)
    assert shown(directory.tensorboard, "angle/dense") == [at for at in (0, 2) if at <= step]
    assert shown(directory.tensorboard, "R/dense") == ([0] if step else [])
    assert shown(directory.tensorboard, "test/top1") == []
