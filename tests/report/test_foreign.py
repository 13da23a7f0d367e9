"""Reports on what others may have put into run directories: bounded, noted, never a traceback."""

import json
import os
import shutil
import struct
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tfcredit import cli
from tfcredit.report import find_runs
from tfcredit.report.reading import read_runs
from tfcredit.training.recipe import Recipe


@pytest.fixture
def run(tmp_path):
    """A run directory with a table and events of two layers."""
    folder = tmp_path / "runs" / "run"
    (folder / "tensorboard").mkdir(parents=True)
    flags = Recipe(model="fc", dataset="embedded", rule="info_alignment").flagfile()
    (folder / "flags.txt").write_text(flags)
    (folder / "metrics.csv").write_text("epoch,step,test_top1\n1,5,0.25\n2,10,0.5\n")
    (folder / "summary.json").write_text('{"top1": 0.5, "step": 10}')
    (folder / "lock").touch()
    write_events(folder, [scalar("angle/one", 0, 90.0), scalar("angle/two", 5, 45.0)])
    return folder


def scalar(tag, step, value):
    summary = event_pb2.Event(step=step)
    summary.summary.value.add(tag=tag, simple_value=value)
    return summary


def tensor(tag, value, **changes):
    event = event_pb2.Event(step=3)
    proto = event.summary.value.add(tag=tag).tensor
    proto.MergeFromString(tf.make_tensor_proto(value).SerializeToString())
    for name, new in changes.items():
        if name == "claims":
            del proto.tensor_shape.dim[:]
            proto.tensor_shape.dim.add(size=new)
        else:
            setattr(proto, name, new)
    return event


def framed(event):
    content = event.SerializeToString()
    head = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (head, content)]
    return head + sums[0] + content + sums[1]


def write_events(folder, events, name="events.out.tfevents.1.other"):
    path = folder / "tensorboard" / name
    path.write_bytes(b"".join(map(framed, events)))
    return path


def report(run, output):
    return cli.main(["report", str(run), f"--output={output}"])


def test_our_records_are_those_of_tensorflow(run):
    path = run / "tensorboard" / "events.out.tfevents.1.other"
    read = [event_pb2.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    assert [event.summary.value[0].tag for event in read] == ["angle/one", "angle/two"]


def test_a_run_with_measures_is_reported(tmp_path):
    """Its TensorBoard files hold heat maps, as images, beside the angles."""
    flags = ["--model=fc", "--dataset=embedded", "--batch_size=1000", "--steps=6"]
    flags += ["--rule=feedback_alignment", "--measures", "--measure_every_steps=3"]
    run = tmp_path / "run"
    assert cli.main(["train", *flags, f"--run_dir={run}"]) == 0
    assert report(run, tmp_path / "report.html") == 0
    stored = find_runs([run])[0]
    assert stored.notes == [] and {r["step"] for r in stored.angles} == {0, 3, 6}
    assert {r["layer"] for r in stored.angles} == {r["layer"] for r in stored.error_angles}
    assert "heat_map" not in {record["layer"] for record in stored.angles}


EVENTS = {
    "an image": tensor("angle/other", [b"4", b"4", b"png"]),
    "a string": tensor("angle/other", b"word"),
    "a vector": tensor("angle/other", [1.0, 2.0]),
    "nothing": tensor("angle/other", np.zeros((0,), "float32")),
    "a complex number": tensor("angle/other", 1j),
    "a truth value": tensor("angle/other", True),
    "an unknown type": tensor("angle/other", 1.0, dtype=99),
    "more elements than it holds": tensor("angle/other", 1.0, claims=2**40),
    "fewer bytes than it claims": tensor("angle/other", 1.0, tensor_content=b"12"),
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_events_of_any_kind_are_left_out_with_a_note(run, event):
    write_events(run, [event, scalar("angle/one", 9, 7.0)], "events.out.tfevents.2")
    stored = find_runs([run])[0]
    assert {r["layer"] for r in stored.angles} == {"one", "two"}
    assert stored.angles[1] == {"step": 9, "layer": "one", "angle": 7.0}
    assert any("'angle/other'" in note for note in stored.notes)


def merged(values, image=b""):
    """An event as `tf.compat.v1.summary.merge_all` makes it, of many scalars and an image."""
    event = event_pb2.Event(step=7, wall_time=1.0)
    if image:
        event.summary.value.add(tag="angle/heat_map").image.encoded_image_string = image
    for tag, value in values.items():
        event.summary.value.add(tag=tag, simple_value=value)
    return event


MERGED = {
    "many scalars": merged({f"angle/layer_{i:03}": 1.0 for i in range(300)}),
    "behind an image": merged({"angle/layer_000": 1.0}, b"png" * 5_000),
}


@pytest.mark.parametrize("event", MERGED.values(), ids=MERGED)
def test_scalars_in_large_records_are_noted(run, event):
    write_events(run, [event, scalar("angle/one", 9, 7.0)], "events.out.tfevents.2")
    stored = find_runs([run])[0]
    assert {r["layer"] for r in stored.angles} == {"one", "two"}
    assert any("'angle/layer_000'" in note and "of more than 5 kB" in note for note in stored.notes)


def test_large_records_of_other_things_need_no_note(run):
    noise = np.random.default_rng(0).bytes(9_000)
    unread = event_pb2.Event.FromString(b"")
    unread.file_version = "x" * 9_000
    events = [merged({"loss": 1.0}, noise), unread, tensor("angle/heat_map", [noise])]
    write_events(run, events, "events.out.tfevents.2")
    assert find_runs([run])[0].notes == []


@pytest.mark.parametrize("seed", range(5))
def test_large_records_may_hold_anything(run, seed):
    content = bytearray(MERGED["many scalars"].SerializeToString())
    random = np.random.default_rng(seed)
    for place in random.integers(0, len(content), 1_000):
        content[place] = random.integers(256)
    head = struct.pack("<Q", len(content))
    record = head + struct.pack("<I", masked_crc32c(head)) + bytes(content) + b"sums"
    path = run / "tensorboard" / "events.out.tfevents.2"
    path.write_bytes(record + framed(scalar("angle/one", 9, 7.0)))
    assert find_runs([run])[0].angles[1] == {"step": 9, "layer": "one", "angle": 7.0}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_numbers_of_any_type_are_read(run, dtype):
    events = [tensor(f"angle/{n}", np.asarray(v, dtype)) for n, v in (("a", 3), ("b", [4]))]
    write_events(run, events, "events.out.tfevents.2")
    found = {r["layer"]: r["angle"] for r in find_runs([run])[0].angles}
    assert found["a"] == 3.0 and found["b"] == 4.0


def longer(content, by):
    """The first record claims to be longer, with a check sum that fits."""
    head = struct.pack("<Q", struct.unpack("<Q", content[:8])[0] + by)
    return head + struct.pack("<I", masked_crc32c(head)) + content[12:]


DAMAGES = {
    "cut in a record": lambda content: content[:-3],
    "cut in a head": lambda content: content + b"12345",
    "too long by a byte": lambda content: longer(content, 1),
    "too long by some": lambda content: longer(content, 9),
    "longer than the file": lambda content: longer(content, 500),
    "endless": lambda content: longer(content, 2**63),
    "a wrong length": lambda content: b"\x01" + content[1:],
    "a flipped bit": lambda content: content[:30] + bytes([content[30] ^ 4]) + content[31:],
    "text": lambda content: b"no events at all\n" * 9,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_events_are_read_as_far_as_they_go(run, damage):
    path = write_events(run, [scalar("angle/x", 1, 1.0)] * 3, "events.out.tfevents.2")
    path.write_bytes(damage(path.read_bytes()))
    stored = find_runs([run])[0]
    assert any("tfevents.2" in note and "left out" in note for note in stored.notes)
    assert {"one", "two"} <= {r["layer"] for r in stored.angles} <= {"one", "two", "x"}


@pytest.mark.slow
def test_many_layers_times_and_long_tags_are_bounded(run, tmp_path):
    events = [scalar("angle/" + "x" * 10**6, 1, 1.0)]
    events += [scalar(f"angle/layer{i}", step, 9.0) for step in range(5) for i in range(20_000)]
    events += [scalar("angle/one", step, 9.0) for step in range(5_000)]
    write_events(run, events, "events.out.tfevents.2")
    rows = [f"{s},layer{i},r,5.0" for s in range(3) for i in range(20_000)]
    (run / "measures.csv").write_text("\n".join(["step,layer,rule,error_angle", *rows]) + "\n")
    lines = [f"{i},{i},0.5" for i in range(50_000)]
    (run / "metrics.csv").write_text("\n".join(["epoch,step,test_top1", *lines]) + "\n")
    started = time.process_time()
    assert report(run, tmp_path / "report.html") == 0
    assert time.process_time() - started < 30
    assert (tmp_path / "report.html").stat().st_size < 5e6
    notes = " ".join(find_runs([run])[0].notes)
    assert "200 of 1000 layers" in notes and "200 of 20000 layers" in notes


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(target):
    def make(path):
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return make


def folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def outside(path):
    other = path.parents[2] / "outside"
    other.write_text("epoch,step,secret\n1,5,0.25\n")
    link(other)(path)


def large(path):
    path.write_bytes(b"")
    os.truncate(path, 2**31)  # holes: no disk is used


ODD = {
    "a named pipe": pipe,
    "a link to an endless device": link("/dev/zero"),
    "a link to nothing": link("nowhere"),
    "a link to itself": lambda path: link(path)(path),
    "a link that leads out": outside,
    "a folder": folder,
    "too large": large,
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 9),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["metrics.csv", "measures.csv", "tensorboard/a.tfevents", "lock"])
def test_odd_files_are_left_out_with_a_note(run, name, make):
    (run / "summary.json").unlink()  # so that the lock is asked for
    make(run / name)
    stored = find_runs([run])[0]
    notes = " ".join(stored.notes)
    assert "secret" not in notes and not any("secret" in row for row in stored.rows)
    assert name == "lock" or os.path.basename(name) in notes


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["flags.txt", "summary.json"])
def test_odd_runs_are_told_or_left_out(run, name, make, tmp_path, capsys):
    make(run / name)
    assert report(run, tmp_path / "report.html") == 2
    told = capsys.readouterr().err
    assert name in told and told.count("\n") == 1 and "secret" not in told
    assert not (tmp_path / "report.html").exists()
    good = run.parent / "good"
    good.mkdir()
    for file in ("metrics.csv", "lock"):
        (good / file).write_text((run / file).read_text())
    (good / "flags.txt").write_text(Recipe(model="fc", dataset="embedded").flagfile())
    runs, notes = read_runs([run.parent])
    assert [each.name for each in runs] == ["good"]
    if os.path.exists(run / name):  # others are no sign of a run
        assert "run is left out" in notes[0]


def test_what_is_left_out_is_on_the_page(run, tmp_path):
    other = run.parent / "other"
    other.mkdir()
    (other / "flags.txt").write_text("--verbose\n<b>\n")
    write_events(run, [tensor("angle/<i>", b"word")], "events.out.tfevents.2")
    pipe(run / "measures.csv")
    assert report(run.parent, tmp_path / "report.html") == 0
    text = (tmp_path / "report.html").read_text()
    for note in ("other is left out", "angle/&lt;i&gt;", "measures.csv is no regular file"):
        assert note in text


FLAGS = {
    "of another program": "--batch_size=many\n",
    "junk": "\0\1 no flags\n",
    "a number of thousands of digits": f"--seed={'9' * 5000}\n",
    "flags of a file": "--flagfile=OTHER\n",
    "flags of a file, one dash": "-flagfile OTHER\n",
    "flags of a file, in quotes": "  --flagfile=OTHER  \n",
}


@pytest.mark.parametrize("text", FLAGS.values(), ids=FLAGS)
def test_flags_of_others_are_told_and_read_nothing_else(run, text, tmp_path, capsys):
    other = tmp_path / "other"
    other.write_text("--model=resnet20\n--secret=1\n")
    (run / "flags.txt").write_text(text.replace("OTHER", str(other)))
    assert report(run, tmp_path / "report.html") == 2
    told = capsys.readouterr().err
    assert "flags.txt can't be read" in told and "secret" not in told and len(told) < 600


SUMMARIES = {
    "deep": "[" * 100_000,
    "deep, closed": '{"a": ' * 50_000 + "1" + "}" * 50_000,
    "digits": f'{{"top1": {"9" * 400}, "step": {"9" * 400}, "seconds": {"9" * 309}}}',
    "thousands of digits": f'{{"top1": {"9" * 9000}}}',
    "huge": '{"top1": 1e308, "mean_angle": -1e308, "step": Infinity, "seconds": 1e99}',
    "a list": "[1]",
    "other types": '{"top1": [1], "step": "x", "versions": [1], "mean_angle": {"a": 1}}',
    "long words": json.dumps({"versions": {"a" * 200_000: "b"}, "top1": 0.5}),
    "true": '{"top1": true, "seconds": null}',
}


@pytest.mark.parametrize("text", SUMMARIES.values(), ids=SUMMARIES)
def test_any_summary_ends_in_a_page_or_a_sentence(run, text, tmp_path, capsys):
    (run / "summary.json").write_text(text)
    code = report(run, tmp_path / "report.html")
    told = capsys.readouterr().err
    if code == 0:
        assert (tmp_path / "report.html").stat().st_size < 300_000
    else:
        assert code == 2 and "summary.json is damaged" in told and told.count("\n") == 1


NUMBERS = ["1e308", "-1e308", "1e-320", "9" * 400, "1e400", "0x1", "1_0", "", " 1", "١"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("column", ["step", "test_top1"])
@pytest.mark.every(2)
def test_any_number_in_a_table_is_shown_or_noted(run, number, column, tmp_path):
    values = {"epoch": "3", "step": "15", "test_top1": "0.5"} | {column: number}
    with (run / "metrics.csv").open("a") as file:
        file.write(",".join(values.values()) + "\n")
    assert report(run, tmp_path / "report.html") == 0
    assert [row["step"] for row in find_runs([run])[0].rows][:2] == [5, 10]


def test_means_of_equal_names_are_no_layers(run):
    """A layer that stands alone under such a name is one."""
    paths = {
        "a/x": (10, 20),
        "b/x": (20, 40),
        "x": (15, 30),
        "a/y": (1, 2),
        "b/y": (3, 4),
        "y": (2, 9),
    }
    events = [scalar(f"angle/{p}", i, v) for p, both in paths.items() for i, v in enumerate(both)]
    write_events(run, events)
    assert {r["layer"] for r in find_runs([run])[0].angles} == set(paths) - {"x"}


def test_folders_that_go_meanwhile_are_no_matter(run):
    """As those of checkpoints that a training makes and deletes."""
    is_over = threading.Event()

    def train():
        while not is_over.is_set():
            for number in range(30):
                (run / "checkpoints" / f"{number}" / "temporary").mkdir(parents=True)
            shutil.rmtree(run / "checkpoints")

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(200):
            assert len(read_runs([run.parent])[0]) == 1
    finally:
        is_over.set()
        thread.join()


def test_tensorboard_as_a_file_or_a_link(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (run / "tensorboard").rename(elsewhere)
    (run / "tensorboard").symlink_to(elsewhere)
    assert find_runs([run])[0].angles == []
    (run / "tensorboard").unlink()
    (run / "tensorboard").write_text("a file")
    assert report(run, tmp_path / "report.html") == 0
