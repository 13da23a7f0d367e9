"""SIGTERM, SIGHUP and Ctrl-C at any time: one line, an exit code, and runs are saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.test_run import ROOT, run
from tfcredit import interrupt
from tfcredit.interrupt import AT_ONCE, EndSignal, Stopped, StopSignal

FLAGS = ["--model=fc", "--batch_size=64", "--checkpoint_every_steps=3", "--steps=2000"]
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP", signal.SIGINT: "Ctrl-C"}


@pytest.fixture(autouse=True)
def not_ignored():
    """What a shell lets jobs in the background ignore, processes would inherit as ignored."""
    before = {number: signal.getsignal(number) for number in NAMES}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def started(folder, until, seconds=120):
    """A run that said `until`."""
    command = [sys.executable, "-u", str(ROOT / "run_imagenet.py"), *FLAGS, f"--run_dir={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.startswith(until):
            return process
    raise AssertionError(f"no line {until!r}")


@pytest.mark.slow
@pytest.mark.parametrize("number", NAMES)
@pytest.mark.parametrize("until", ["Training fc", "Run directory", "Epoch 1/"])
def test_a_signal_saves_and_ends_with_0(number, until, tmp_path):
    process = started(tmp_path / "run", until)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    told = [line for line in said.splitlines() if line.startswith("Stopped by")]
    assert len(told) == 1 and f"Stopped by {NAMES[number]} " in told[0] and "Traceback" not in said
    if until == "Epoch 1/":
        assert "the checkpoint is" in told[0]
        out = run(tmp_path / "run", "--batch_size=64", "--steps=2000", "--mode=evaluate")
        assert "Step " in out


def stopping(*numbers):
    """The exit code of a process that gets signals while its main thread computes."""
    program = (
        "import numpy as np, sys\n"
        "from tfcredit.interrupt import StopSignal\n"
        "with StopSignal() as stop:\n"
        "    print('here', flush=True)\n"
        "    while not stop.asked: np.linalg.svd(np.random.randn(1800, 1800))\n"
        "print(stop.by)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process.stdout.readline()
    for number in numbers:
        time.sleep(0.2)
        process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_a_second_interrupt_stops_in_the_middle_of_a_step():
    assert stopping(signal.SIGINT) == (0, "Ctrl-C\n")
    code, said = stopping(signal.SIGINT, signal.SIGINT)
    assert code == AT_ONCE and "second Ctrl-C" in said


def test_handlers_come_back_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        term = signal.getsignal(signal.SIGTERM)
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.by == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) == term
    finally:
        signal.signal(signal.SIGHUP, before)


COMMAND = """
import ctypes, pathlib, sys, time, types
from tfcredit import cli
from tfcredit.files import written
from tfcredit import interrupt

def main(arguments, program):
    with written(arguments[0]) as unfinished:
        unfinished.write_text("half")
        print("here", flush=True)
        if arguments[1:]:  # as C++ code that waits, where no handler of Python is called
            interrupt.EndSignal._patience = 0.3
            libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            libc.pthread_mutex_lock(mutex), libc.pthread_mutex_lock(mutex)
        time.sleep(60)

sys.modules["slow.command"] = types.SimpleNamespace(main=main)
cli.COMMANDS["slow"] = ("slow", "")
sys.exit(cli.main(["slow", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("number", NAMES)
def test_a_command_with_nothing_to_save_ends_in_a_line(number, waits, tmp_path):
    """`report`, `evaluate`, `export`, `prepare-imagenet`: by the code that shells give it."""
    output = tmp_path / "page.html"
    output.write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(output), *["waits"] * waits],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    if waits:
        time.sleep(0.3)  # until it does
    process.send_signal(number)
    if not waits and number != signal.SIGINT:
        process.send_signal(number)  # as `timeout` does, and a shell beside its terminal
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number and output.read_text() == "old"
    if waits:
        assert said == f"Stopped by {NAMES[number]}.\n"
    else:
        assert said == f"tfcredit slow: stopped by {NAMES[number]}.\n"
        assert list(tmp_path.iterdir()) == [output]  # nothing half written


def test_a_signal_that_the_main_thread_did_not_notice_is_sent_again(monkeypatch):
    """As one that comes right before a wait in C, which Python then does not interrupt."""
    monkeypatch.setattr(interrupt, "REPEAT", 0.1)
    with pytest.raises(Stopped), EndSignal() as ending:
        os.write(ending._write, bytes([signal.SIGTERM]))  # all that Python has done until then
        time.sleep(30)
    assert ending.by == "SIGTERM"


def test_where_all_signals_are_ignored_nothing_is_left_open():
    before = {number: signal.signal(number, signal.SIG_IGN) for number in NAMES}
    try:
        with EndSignal():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
