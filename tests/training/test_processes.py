"""Processes of runs: the share of the machine that each of several gets."""

import os

import pytest
import tensorflow as tf

from tfcredit.training.processes import _take_share


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
