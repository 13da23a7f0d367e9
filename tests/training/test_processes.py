"""Processes of runs: the share of the machine that each of several gets."""

import multiprocessing
import os

import pytest
import tensorflow as tf

from tfcredit.training import launcher
from tfcredit.training.processes import _take_share
from tfcredit.training.recipe import Recipe


@pytest.mark.parametrize(
    ("gpus", "place", "places", "mine", "grows"),
    [
        (["a", "b"], 1, 2, "b", False),  # a GPU each
        (["a", "b"], 2, 3, "a", True),  # more runs than GPUs: two share one
        ([], 0, 2, None, False),
    ],
)
def test_each_of_several_runs_has_a_gpu_and_its_share_of_the_cores(
    gpus, place, places, mine, grows, monkeypatch
):
    seen, growing, threads = [], [], []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpu, kind: seen.append(gpu))
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, grow: growing.append(gpu)
    )
    monkeypatch.setattr(
        tf.config.threading, "set_intra_op_parallelism_threads", lambda count: threads.append(count)
    )
    _take_share(place, places)
    assert seen == ([] if mine is None else [mine])
    assert growing == ([mine] if grows else [])
    assert threads == [max(1, os.cpu_count() // places)]


class Fixed(launcher.Launcher):
    """Starts so many runs."""

    def next(self):
        return self.tasks.pop() if self.tasks else None

    def name_of(self, task):
        return str(task)

    def start_of(self, task):
        return Recipe(run_dir="none"), ""

    def is_to_stop(self, task):
        return False

    def ended(self, task, word, what):
        assert word == "finished"


def test_the_jobs_of_all_tasks_on_a_machine_have_places_of_their_own(monkeypatch):
    """As of `compare` and `search`: the second of three tasks, two jobs each."""
    places = []

    class Process:
        def __init__(self, recipe, log, place, count):
            self.place = place
            places.append((place, count))
            self.connection, theirs = multiprocessing.Pipe()
            theirs.close()  # there is something to hear

        def hear(self):
            return "finished", 0.5

        def join(self):
            self.connection.close()

    monkeypatch.setattr(launcher, "RunProcess", Process)
    monkeypatch.setattr(launcher.workers, "place_on_machine", lambda: (1, 3))
    runs = Fixed(jobs=2, images={})
    runs.tasks = [1, 2, 3, 4]
    assert runs.run()
    assert set(places) == {(2, 6), (3, 6)} and len(places) == 4
