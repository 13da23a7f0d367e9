"""Processes in which runs train, and their messages with what started them.

A run has a process of its own: nothing of one run reaches another, and what ends a process ends
one run only. It is forked from a server that has TensorFlow imported, but not started.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import keras
import tensorflow as tf

from tfcredit.errors import NotFiniteError, UserError
from tfcredit.files import no_scratch
from tfcredit.interrupt import NAMES
from tfcredit.screen import Screen
from tfcredit.training import workers
from tfcredit.training.known_images import described
from tfcredit.training.recipe import Recipe
from tfcredit.training.run import Run
from tfcredit.training.run_directory import RunDirectory

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tfcredit.training.server"])


def check(recipes: Sequence[Recipe]) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Check, in a process of its own, that runs can start.

    Args:
        recipes: Of the runs, which use the same data and network; one at least.

    Returns:
        What all of them are to have alike and was found: the flags `dataset` and `model_digest`,
        and what is known of the images, as `known_images.described` gives it.

    Raises:
        UserError: One can't.
    """
    for recipe in recipes:
        if recipe.strategy == "multi_worker":
            raise UserError(
                f"--strategy={recipe.strategy} is for a single run: leave it out; each run has "
                "this machine, or with --jobs a part of it."
            )
    connection, theirs = CONTEXT.Pipe()
    process = _started(_check, recipes, theirs)
    theirs.close()
    try:
        found = connection.recv()
    except EOFError:
        process.join()
        if process.exitcode > 0:  # it has told its own traceback
            raise RuntimeError("the process that checks the flags has crashed") from None
        raise UserError(
            f"the process that checks the flags was ended by signal {-process.exitcode}: look "
            "whether the machine has memory left, and start it again."
        ) from None
    finally:
        connection.close()  # ends the process, if a signal ended the wait for it
    process.join()
    if isinstance(found, UserError):
        raise found
    return found


def _check(recipes: Sequence[Recipe], connection: Connection) -> None:
    _obey(connection)
    try:
        connection.send(_checked(recipes))
    except UserError as problem:
        connection.send(problem)


def _checked(recipes: Sequence[Recipe]) -> tuple[dict[str, str | None], dict[str, Any]]:
    workers.leave()
    for recipe in recipes:
        run = Run(recipe)
        run.check()
        keras.backend.clear_session()
    found = {"dataset": run.recipe.dataset, "model_digest": run.recipe.model_digest}
    return found, described(run.plan.images)


class RunProcess:
    """A run in a process of its own.

    Args:
        recipe: The recipe of the run.
        log: The file that gets what the run prints; it is lengthened.
        place: Which of `places` shares of the machine the run gets, from 0 on.
        places: Runs at a time on the machine. Each of several has its share of the cores as
            threads of an operation, and one GPU, which it shares if there are more runs than GPUs.
            A single one has the machine.

    Attributes:
        connection: What the process says: `("epoch", None)` after each epoch but the last, and
            waits for an answer; at the end `("finished", top1)`, `("stopped", None)`,
            `("diverged", sentence)` or `("mistake", sentence)`. Without any of these it crashed.
            Answers are "go" and "stop", which may come at any time. The process ends at once
            when the connection is lost, as it is when what started it is killed.
    """

    def __init__(self, recipe: Recipe, log: str, place: int = 0, places: int = 1):
        self.place = place
        self.connection, theirs = CONTEXT.Pipe()
        arguments = (recipe, log, place, places, theirs)
        self._process = _started(_train, *arguments)
        theirs.close()

    def hear(self) -> tuple[str, str | float | None]:
        """The next message, `("crashed", None)` if none comes any more."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return "crashed", None

    def answer(self, word: str) -> None:
        """Send "go" or "stop"."""
        try:
            self.connection.send(word)
        except OSError:
            pass  # it has ended, as its last message will say

    def join(self) -> None:
        """Wait for the end of the process."""
        self._process.join()
        self.connection.close()

    def abandon(self) -> None:
        """End the process at once, as when what started it is killed."""
        self.connection.close()
        self._process.join()


def _started(target: Callable, *arguments: Any) -> BaseProcess:
    """A process of this module's function, forked from a server that signals don't reach.

    A terminal's Ctrl-C, and what schedulers send, goes to all processes of a command. The server
    would end, or print a traceback. What it forks obeys its connection: see `_obey`.
    """
    # Both inherit what is blocked in this thread, in which a signal waits until it is not any more.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NAMES)
    process = CONTEXT.Process(target=target, args=arguments)
    with _no_main():
        try:
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, NAMES)  # it has let two of them through
            forkserver.ensure_running()
        except OSError as problem:  # its socket is one of the temporary files
            raise no_scratch(problem) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        process.start()
    return process


def _obey(connection: Connection, hear: Callable[[str], None] | None = None) -> None:
    """Let this process end with the one that started it, and by its own SIGTERM alone.

    Args:
        connection: To that process.
        hear: Gets each word that it says.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what started this process passes them on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NAMES)

    def listen() -> None:
        try:
            while True:
                word = connection.recv()
                if hear is not None:
                    hear(word)
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Keep a started process from running the user's script again, which may have no guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Asking(keras.callbacks.Callback):
    """Asks after each epoch but the last whether to go on."""

    def __init__(self, connection: Connection):
        super().__init__()
        self._connection = connection
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        _obey(connection, self._hear)

    def on_epoch_end(self, epoch, logs=None):
        """Ask and wait."""
        if epoch + 1 < self.params["epochs"]:
            self._connection.send(("epoch", None))
            self._answers.get()

    def _hear(self, word: str) -> None:
        if word == "stop":  # as pre-emption does: the run saves and ends
            os.kill(os.getpid(), signal.SIGTERM)
        self._answers.put(word)


def _train(recipe: Recipe, log: str, place: int, places: int, connection: Connection) -> None:
    asking = _Asking(connection)
    try:
        with RunDirectory.of(recipe).writing():
            _print_into(log)
    except UserError as problem:
        connection.send(("mistake", str(problem)))
        return
    workers.leave()
    if places > 1:
        _take_share(place, places)
    with Screen():  # a full disk ends a run where it is saved, not where it is logged
        try:
            summary = Run(recipe, [asking]).train()
            message = "stopped", None
            if summary is not None:
                message = "finished", summary.get("validation_top1", summary["top1"])
        except NotFiniteError as problem:
            message = "diverged", str(problem)
        except UserError as problem:
            message = "mistake", str(problem)
        print(*message, flush=True)
        connection.send(message)


def _print_into(log: str) -> None:
    # A named pipe would wait for a reader.
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    os.close(file)


def _take_share(place: int, places: int) -> None:
    """Leave to other runs their part of the machine."""
    tf.config.threading.set_intra_op_parallelism_threads(max(1, (os.cpu_count() or 1) // places))
    if gpus := tf.config.list_physical_devices("GPU"):
        mine = gpus[place % len(gpus)]
        tf.config.set_visible_devices(mine, "GPU")
        if places > len(gpus):  # else each process takes all of its memory
            tf.config.experimental.set_memory_growth(mine, True)
