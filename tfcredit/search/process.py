"""The process in which a trial's run trains, and its messages with the search.

A trial has a process of its own, as any run has: nothing of one trial reaches another, and what
ends a process ends one trial only. It is forked from a server that has TensorFlow imported, but
not started.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection

import keras
import tensorflow as tf

from tfcredit.errors import NotFiniteError, UserError
from tfcredit.training.recipe import Recipe
from tfcredit.training.run import Run

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tfcredit.search.server"])


def check(recipe: Recipe) -> str:
    """Check, in a process of its own, that a run of `recipe` can start.

    Args:
        recipe: The recipe.

    Returns:
        The name of its data set.

    Raises:
        UserError: It can't.
    """
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        return pool.submit(_check, recipe).result()


def _check(recipe: Recipe) -> str:
    run = Run(recipe)
    run.check()
    return run.recipe.dataset


class TrialProcess:
    """A trial's run in a process of its own.

    Args:
        recipe: The recipe of the trial.
        log: The file that gets what the run prints; it is lengthened.
        threads: Threads of an operation, or `None` for TensorFlow's own choice.

    Attributes:
        connection: What the process says: `("epoch", None)` after each epoch but the last, and
            waits for an answer; at the end `("finished", top1)`, `("stopped", None)`,
            `("diverged", sentence)` or `("mistake", sentence)`. Without any of these it crashed.
            Answers are "go" and "stop", which may come at any time. The process ends at once
            when the connection is lost, as it is when the search is killed.
    """

    def __init__(self, recipe: Recipe, log: str, threads: int | None):
        self.connection, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_train, args=(recipe, log, threads, theirs))
        self._process.start()
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


class _Asking(keras.callbacks.Callback):
    """Asks after each epoch but the last whether to go on."""

    def __init__(self, connection: Connection):
        super().__init__()
        self._connection = connection
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def on_epoch_end(self, epoch, logs=None):
        """Ask and wait."""
        if epoch + 1 < self.params["epochs"]:
            self._connection.send(("epoch", None))
            self._answers.get()

    def _listen(self) -> None:
        try:
            while True:
                word = self._connection.recv()
                if word == "stop":  # as pre-emption does: the run saves and ends
                    os.kill(os.getpid(), signal.SIGTERM)
                self._answers.put(word)
        except (EOFError, OSError):
            os._exit(1)


def _train(recipe: Recipe, log: str, threads: int | None, connection: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the search passes them on
    with open(log, "a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    try:
        summary = Run(recipe, [_Asking(connection)]).train()
        message = "stopped", None
        if summary is not None:
            message = "finished", summary.get("validation_top1", summary["top1"])
    except NotFiniteError as problem:
        message = "diverged", str(problem)
    except UserError as problem:
        message = "mistake", str(problem)
    print(*message, flush=True)
    connection.send(message)
