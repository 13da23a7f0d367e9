"""The time of a run and the speed of an epoch, over several starts."""

import json

import pytest

from tfcredit.training import progress
from tfcredit.training.progress import Progress
from tfcredit.training.run_directory import RunDirectory


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def start(folder, step):
    return Progress(RunDirectory(folder), step)


def test_an_epoch_in_pieces_has_one_speed(tmp_path, clock):
    first = start(tmp_path, 0)
    clock.now = 10.0  # the network is built
    first.begin(is_new=True)
    clock.now = 14.0
    first.count(2)
    first.note(2, [0])
    clock.now = 99.0  # steps that are undone
    first.count(1)
    second = start(tmp_path, 2)
    clock.now = 109.0
    second.begin(is_new=False)
    clock.now = 111.0
    second.count(4)
    second.note(6, [0, 2])
    assert second.end() == 6 / (4.0 + 2.0)
    assert second.seconds == 14.0 + 12.0
    # Killed before the row was written: its speed is not lost.
    third = start(tmp_path, 6)
    assert third.end() == 1.0
    third.begin(is_new=True)
    clock.now += 3.0
    third.count(6)
    assert third.end() == 2.0
    # A damaged checkpoint: on from the one before.
    assert start(tmp_path, 2).end() == 0.5


def test_a_kill_before_the_checkpoint_is_no_loss(tmp_path, clock):
    first = start(tmp_path, 0)
    first.begin(is_new=True)
    for step in (1, 2, 3):
        clock.now += 1.0
        first.count(1)
        first.note(step, [0, 1])
    assert set(json.loads(RunDirectory(tmp_path).progress.read_text())) == {"1", "3"}
    assert start(tmp_path, 1).end() == start(tmp_path, 3).end() == 1.0
    assert start(tmp_path, 2).end() is None


@pytest.mark.parametrize(
    "text",
    ["", "[1", "7", "[]", '{"1": 2}', '{"1": [1]}', '{"a": [1, 2, 3]}', '{"1": [1, 1e999, 1]}'],
)
def test_junk_is_no_time(text, tmp_path):
    RunDirectory(tmp_path).progress.write_text(text)
    assert start(tmp_path, 1).end() is None


def test_the_time_left_is_of_this_starts_speed(tmp_path, clock):
    progress = start(tmp_path, 40)
    assert progress.seconds_left(10) is None
    progress.begin(is_new=True)
    clock.now = 100.0  # TensorFlow makes its graph
    progress.count(1)
    assert progress.seconds_left(10) is None
    clock.now = 104.0
    progress.count(2)
    assert progress.speed() == 3 / 104.0
    clock.now = 106.0  # an evaluation counts too
    assert progress.seconds_left(10) == 10 * 6.0 / 2
