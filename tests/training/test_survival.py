"""Kills, pre-emption, lost workers: the run goes on as if nothing had happened."""

import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.training.test_strategies import ROOT, environment, workers
from tfcredit.analysis import read_csv

SMALL = ["--model=fc", "--batch_size=500", "--deterministic", "--epochs=4"]
SMALL += ["--checkpoint_every_steps=2", "--rule=info_alignment", "--resume=auto"]
SMALL += ["--learning_rate=0.01"]


def start(folder, *flags):
    command = [sys.executable, str(ROOT / "run_imagenet.py"), *SMALL, f"--run_dir={folder}", *flags]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process, code=0, seconds=300):
    out, error = process.communicate(timeout=seconds)
    assert process.returncode == code, error[-3000:]
    return out + error


def final_state(folder):
    """Every variable of the last checkpoint, and the table without its times."""
    reader = tf.train.load_checkpoint(str(folder / "checkpoints"))
    names = list(reader.get_variable_to_shape_map())
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    time_column = rows[0].index("images_per_second")
    table = [[cell for i, cell in enumerate(row) if i != time_column] for row in rows]
    return {name: reader.get_tensor(name) for name in names}, table


def assert_same(folder, reference, exact_table=True):
    state, table = final_state(folder)
    expected, expected_table = reference
    assert set(state) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
    if exact_table:
        assert table == expected_table
    for row, expected_row in zip(table[1:], expected_table[1:], strict=True):
        np.testing.assert_allclose(np.float64(row), np.float64(expected_row), rtol=1e-5)


def wait_for(condition, seconds=120):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "waited in vain"
        time.sleep(0.005)


def cpu_seconds(process):
    """Of a process that has not ended, in all its threads."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def saved(folder):
    """A condition: the first checkpoint is there."""
    return (folder / "checkpoints" / "checkpoint").exists


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.time()
    finish(start(folder))
    return final_state(folder), time.time() - started


@pytest.mark.slow  # a run that is killed once, at a chosen instant, is in test_recipe_flags
@pytest.mark.parametrize("kills", [2, 20])
def test_kills_at_any_instant_change_nothing(kills, undisturbed, tmp_path):
    reference, duration = undisturbed
    draw = random.Random(kills)
    done = 0
    while done < kills:
        folder = tmp_path / f"run{done}"
        # A run is killed up to 4 times: before, in and after its first steps, saves, evaluations.
        for _ in range(min(4, kills - done)):
            process = start(folder)
            time.sleep(draw.uniform(0.3, 1.0) * duration)
            process.kill()
            process.communicate()
            done += 1
        finish(start(folder))
        assert_same(folder, reference)


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_checkpoint_before(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, "--checkpoint_every_steps=1")
    wait_for(saved(folder))

    def saving():  # files of a checkpoint that has no name yet
        return list((folder / "checkpoints").glob(".partial-ckpt-*"))

    wait_for(saving)
    process.kill()
    process.communicate()
    finish(start(folder))
    assert_same(folder, undisturbed[0])


def test_sigterm_saves_and_ends_with_0(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wait_for(saved(folder))
    used = cpu_seconds(process)
    process.send_signal(signal.SIGTERM)
    out = finish(process)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not by the clock, which the machine's other load lengthens.
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert whole - used < 10
    assert "Stopped by SIGTERM at step" in out and "--resume=auto" in out
    assert not (folder / "summary.json").exists()
    assert "Continuing at step" in finish(start(folder))
    assert_same(folder, undisturbed[0])


@pytest.mark.slow
def test_a_second_run_in_a_directory_is_refused(tmp_path):
    folder = tmp_path / "run"
    first = start(folder)
    wait_for(saved(folder))
    first.send_signal(signal.SIGSTOP)  # or it might end while the second one starts
    try:
        out = finish(start(folder), code=2)
    finally:
        first.send_signal(signal.SIGCONT)
    assert f"is in use by process {first.pid}" in out and "Traceback" not in out
    evaluation = start(folder, "--mode=evaluate")
    finish(first)
    lines = [line for line in finish(evaluation).splitlines() if line.startswith("Step ")]
    assert lines and lines[-1].startswith("Step 96:")


@pytest.mark.slow  # It waits minutes for time-outs.
@pytest.mark.multi_device
def test_a_lost_worker_ends_the_others_and_all_continue(tmp_path):
    def both(folder, *flags):
        cluster = workers(2)
        return [start(folder, cluster, f"--worker={i}", *flags) for i in range(2)]

    for process in both(tmp_path / "whole"):
        finish(process)
    folder = tmp_path / "run"
    chief, other = both(folder)
    wait_for(saved(folder))
    other.kill()
    killed = time.time()
    out = finish(chief, code=2, seconds=120)
    assert time.time() - killed < 90
    assert "lost worker 1 (localhost:" in out and "--resume=auto" in out
    assert "Traceback" not in out
    other.communicate()
    for process in both(folder):
        finish(process)
    # The metrics of the epoch that was broken off are summed in another order.
    assert_same(folder, final_state(tmp_path / "whole"), exact_table=False)


@pytest.mark.multi_device
@pytest.mark.slow
def test_sigterm_to_one_worker_stops_all(tmp_path):
    cluster, folder = workers(2), tmp_path / "run"
    flags = [cluster, "--measures", "--measure_every_steps=2"]
    processes = [start(folder, *flags, f"--worker={i}") for i in range(2)]
    wait_for((folder / "checkpoints" / "ckpt-2.index").exists)
    os.kill(processes[1].pid, signal.SIGTERM)
    told = [finish(process) for process in processes]
    assert "Stopped by a signal to another worker" in told[0] and "Stopped by SIGTERM" in told[1]
    # One of them has written what both have measured.
    measured = [(r["step"], r["layer"], "angle" in r) for r in read_csv(folder / "measures.csv")]
    assert len(set(measured)) == len(measured) >= 2 * 8 and {0, 2} <= {
        step for step, *_ in measured
    }
