"""Workers find each other, by flags, TF_CONFIG or SLURM, and end where one is missing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.pages import ROOT
from tests.training.test_strategies import ports
from tfcredit.errors import UserError
from tfcredit.training import processes, workers
from tfcredit.training.recipe import Recipe

STEP = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_JOB_ID": "20007",
}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    others = ("SLURM_STEP_ID", "SLURMD_NODENAME", "SLURM_GPUS_ON_NODE", "TF_CONFIG")
    for name in (*STEP, *others):
        monkeypatch.delenv(name, raising=False)


def in_a_step(monkeypatch, **changes):
    for name, value in (STEP | changes).items():
        if value is not None:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"SLURM_LOCALID": "1", "SLURM_NODEID": "1"}, (1, 2)),
        ({"SLURM_LOCALID": "2", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "1,2,3"}, (2, 3)),
        ({"SLURM_LOCALID": "0"}, (0, 1)),  # of a batch script: no step
        ({"SLURM_LOCALID": "1", "SLURM_NODEID": "9"}, (0, 1)),
        ({"SLURM_LOCALID": "x", "SLURM_NODEID": "0"}, (0, 1)),
    ],
)
def test_the_tasks_of_a_step_share_a_machine(changes, expected, monkeypatch):
    for name in ("SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    in_a_step(monkeypatch, **changes)
    assert workers.place_on_machine() == expected


@pytest.mark.parametrize(
    "on_node, visible, expected",
    [
        ("4", 4, range(2, 4)),  # GPUs per node: both tasks see all
        ("4", 2, range(2)),  # GPUs per task: each sees its own
        (None, 4, range(4)),
        ("0", 0, range(0)),
        ("3", 3, None),
        ("1", 1, None),
    ],
)
def test_the_tasks_of_a_step_take_no_gpu_twice(on_node, visible, expected, monkeypatch):
    in_a_step(monkeypatch, SLURM_LOCALID="1", SLURM_NODEID="1", SLURM_GPUS_ON_NODE=on_node)
    if expected is None:
        with pytest.raises(UserError, match=f"2 tasks of this SLURM step share the {visible} GPUs"):
            workers.own_gpus(visible)
    else:
        assert workers.own_gpus(visible) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a:1,b:2", ["a:1", "b:2"]),
        ("node[1-3]:22", ["node1:22", "node2:22", "node3:22"]),
        ("n[08-09,12]:5,login:6", ["n08:5", "n09:5", "n12:5", "login:6"]),
        ("10.0.0.1:1,[::1]:2", None),
        ("node[1-]:22", None),
        ("node[1-3]", None),
    ],
)
def test_addresses_of_flags(text, expected):
    if expected is None:
        with pytest.raises(UserError, match="--workers="):
            workers.find(Recipe(workers=text, worker=0))
    else:
        assert workers.find(Recipe(workers=text, worker=1)) == (expected, 1)


def test_tasks_of_a_step_are_workers_in_the_order_of_their_ranks(monkeypatch):
    assert not workers.are_told(Recipe())
    in_a_step(monkeypatch)
    expected = [f"node{node}:{12014 + place}" for node in (1, 2) for place in (0, 1)]
    assert workers.are_told(Recipe()) and workers.find(Recipe()) == (expected, 2)
    in_a_step(monkeypatch, SLURM_JOB_ID="20008")  # the next job has none of these ports
    assert not set(workers.find(Recipe())[0]) & set(expected)
    in_a_step(monkeypatch, SLURM_STEP_ID="1")  # nor has another step of the job
    assert not set(workers.find(Recipe())[0]) & set(expected)
    in_a_step(monkeypatch, SLURM_STEP_ID="0")
    nodes = {"SLURM_STEP_NODELIST": "node[1-10]", "SLURM_STEP_TASKS_PER_NODE": "1(x10)"}
    in_a_step(monkeypatch, SLURM_STEP_NUM_TASKS="10", SLURMD_NODENAME="node3", **nodes)
    found, index = workers.find(Recipe())
    assert found[index] == "node3:12007" and found[9] == "node10:12007"
    # Flags and TF_CONFIG stand above.
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["x:1", "y:1"]}}))
    assert workers.find(Recipe()) == (["x:1", "y:1"], 0)
    assert workers.find(Recipe(workers="a:1,b:2", worker=1)) == (["a:1", "b:2"], 1)


@pytest.mark.parametrize(
    "changes, words",
    [
        *(({name: None}, f"{name} is not set: start it by srun") for name in list(STEP)[1:]),
        ({"SLURM_STEP_NODELIST": "node[1-2"}, "can't be read"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3)"}, "can't be read"),
        ({"SLURM_PROCID": "4"}, "SLURM's task 4 runs on None"),
        ({"SLURMD_NODENAME": "node1"}, "start the tasks with srun --distribution=block"),
    ],
)
def test_a_step_that_tells_too_little(changes, words, monkeypatch):
    in_a_step(monkeypatch, **changes)
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        workers.find(Recipe())


def test_an_empty_tf_config_tells_nothing(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    assert not workers.are_told(Recipe())


def test_one_task_is_no_cluster(monkeypatch):
    in_a_step(monkeypatch, SLURM_STEP_NUM_TASKS="1")
    assert not workers.are_told(Recipe())
    with pytest.raises(UserError, match="nor a SLURM step of several tasks"):
        workers.find(Recipe())


def test_runs_of_a_comparison_are_no_workers_of_one_run(monkeypatch, tmp_path):
    in_a_step(monkeypatch)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["x:1", "y:1"]}}))
    recipe = Recipe(model="fc", dataset="embedded", steps=1, wait_for_workers=1.0)
    assert processes._checked([recipe])[0]["dataset"] == "embedded"
    assert not workers.are_told(recipe)
    with pytest.raises(UserError, match="--strategy=multi_worker is for a single run"):
        processes.check([Recipe(strategy="multi_worker")])


WAITING = """
import ctypes, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` has ignored
from tfcredit.training import workers
with workers.awaited(["here:1", *sys.argv[2:]], 0, float(sys.argv[1])):
    print("waiting", flush=True)
    # With the interpreter's lock, as TensorFlow does.
    ctypes.PyDLL(None).sleep(60)
"""


def waiting(seconds, *others):
    return subprocess.Popen(
        [sys.executable, "-c", WAITING, str(seconds), *others],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_missing_worker_ends_the_others():
    with socket.create_server(("localhost", 0)) as there:
        missing, present = ports(1)[0], there.getsockname()[1]
        process = waiting(2, f"localhost:{missing}", f"localhost:{present}")
        process.stdout.readline()
        started = time.monotonic()
        _, told = process.communicate(timeout=30)
    assert process.returncode == 2 and time.monotonic() - started < 10
    assert f"waited 2 s for the other workers; localhost:{missing} does not answer" in told
    assert str(present) not in told and "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_a_worker_that_waits(number):
    process = waiting(60, f"localhost:{ports(1)[0]}")
    process.stdout.readline()
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(30) in (-number, number) and time.monotonic() - started < 5
    assert "was stopped while it waited for the other workers" in process.communicate()[1]


def test_all_there():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells' jobs may ignore
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    with workers.awaited(["a:1", "b:2"], 0, 60.0):
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert {n: signal.getsignal(n) for n in before} == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def command(*flags):
    small = "--model=fc --dataset=embedded --steps=2 --batch_size=500 --rule=info_alignment".split()
    return [sys.executable, "-m", "tfcredit", "train", *small, *map(str, flags)]


@pytest.mark.slow
@pytest.mark.multi_device
def test_a_run_names_the_worker_that_is_missing(tmp_path):
    here, missing = ports(2)
    flags = [f"--workers=localhost:{here},localhost:{missing}", "--worker=0"]
    done = subprocess.run(
        command("--wait_for_workers=10", f"--run_dir={tmp_path}/run", *flags),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert f"localhost:{missing} does not answer" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.multi_device
def test_tasks_with_flags_of_their_own_are_no_workers_of_one_run(tmp_path):
    addresses = ",".join(f"localhost:{port}" for port in ports(2))
    tasks = [
        subprocess.Popen(
            command(f"--seed={i}", f"--run_dir={tmp_path}/{i}", f"--workers={addresses}")
            + [f"--worker={i}"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [2, 2], errors
    assert any("has other flags or" in error for error in errors), errors  # one may lose the other
    assert not list(tmp_path.glob("*/flags.txt"))


@pytest.mark.slow
@pytest.mark.multi_device
def test_the_example_of_a_slurm_job(tmp_path):
    """Its script, with an srun that starts two tasks as SLURM does, and a scontrol that tells."""
    programs = tmp_path / "bin"
    programs.mkdir()
    srun = f"""#!/bin/bash
shift  # --distribution
program=("{sys.executable}" -m "$1"); shift
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2
for SLURM_PROCID in 0 1; do
  SLURM_PROCID=$SLURM_PROCID SLURMD_NODENAME=localhost "${{program[@]}}" "$@" &
done
wait -n && wait -n
"""
    for name, text in (("srun", srun), ("scontrol", f'#!/bin/bash\necho "$@" >{tmp_path}/told\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    job = str(os.getpid())  # so that runs side by side have ports of their own
    environment = {"RUN": str(tmp_path / "run"), "SLURM_JOB_ID": job, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", ROOT / "examples/slurm.sbatch", *command()[4:]],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["step"] == 2
    assert not (tmp_path / "told").exists()
