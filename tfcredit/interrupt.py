"""Signals that ask a command to end: pre-emption, a closed session, Ctrl-C."""

import contextlib
import os
import select
import signal
import stat
import threading
from typing import Self

NAMES = {
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
    signal.SIGINT: "Ctrl-C",
}
"""Signal -> its name for users."""
AT_ONCE = 130
"""The exit code after a second Ctrl-C, as shells give it."""
PATIENCE = 10.0
"""Seconds that a command has to clean up."""
REPEAT = 0.2
"""Seconds until a signal that the main thread has not noticed is sent to it once more."""


class Stopped(KeyboardInterrupt):
    """A signal ends a command that has nothing to save.

    Args:
        number: Of the signal.

    Attributes:
        by: Its name for users.
        code: The exit code, as shells give it: 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.by, self.code = NAMES[number], 128 + number


class EndSignal:
    """Ends a command at once, but in order: what it has begun is cleaned up.

    The first of SIGTERM, SIGHUP and Ctrl-C raises `Stopped` in the main thread. By themselves the
    former two would end the process where it is, with files half written and with the processes
    that it started left behind. A second Ctrl-C ends the process at once, and so do `PATIENCE`
    seconds, as TensorFlow may wait in C++ code. A signal that is ignored stays ignored, as `nohup`
    wants it. A context manager; the process' own handlers are back in place after it. Outside the
    main thread, which alone gets signals, it does nothing. `StopSignal` may be used inside of it.
    """

    _patience: float | None = PATIENCE
    _at_once = "Stopped at once by a second Ctrl-C."

    def __init__(self):
        self.by: str | None = None

    def __enter__(self) -> Self:
        self._before, self._listener = {}, None
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in NAMES:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._ask)
        # Python calls its handlers between two of its own instructions only, so not within a step.
        # What a signal writes here is seen at once, by a thread.
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._fd_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *problem) -> None:
        if self._listener is None:
            return
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._listener.join()
        os.close(self._read)

    def _ask(self, number, frame) -> None:
        first, self.by = self.by is None, self.by or NAMES[number]
        if number == signal.SIGHUP:
            _leave_screen()
        if first:
            self._asked(number)

    def _asked(self, number: int) -> None:
        raise Stopped(number)

    def _listen(self) -> None:
        came: list[int] = []
        looked, repeated, wait = False, 0, None
        while True:
            ready, _, _ = select.select([self._read], [], [], wait)
            if not ready and not looked:
                looked, wait = True, self._patience
                if self.by is None:
                    # It came just before the main thread began to wait, and did not end the wait.
                    repeated = came[0]
                    signal.pthread_kill(threading.main_thread().ident, repeated)
                continue
            if not ready:
                _leave(f"Stopped by {NAMES[came[0]]}.", 128 + came[0])
            numbers = os.read(self._read, 64)
            if not numbers:
                return
            came += [number for number in numbers if number in self._before]
            if came and self._patience is not None:
                wait = self._patience if looked else min(REPEAT, self._patience)
            if came.count(signal.SIGINT) - (repeated == signal.SIGINT) > 1:
                _leave(self._at_once, AT_ONCE)


class StopSignal(EndSignal):
    """Remembers that SIGTERM, SIGHUP or Ctrl-C came, so that the run can end between two steps.

    A second Ctrl-C ends the process at once, even in the middle of a step. In all else it is as
    `EndSignal`.

    Attributes:
        by: The name of the signal that came first; `None` if none came.
    """

    _patience = None
    _at_once = "Stopped at once by a second Ctrl-C; checkpoints are intact."

    @property
    def asked(self) -> bool:
        """True if one came."""
        return self.by is not None

    def _asked(self, number: int) -> None:
        pass


def _leave(words: str, code: int) -> None:
    """End the process, whatever its main thread does."""
    with contextlib.suppress(OSError):
        os.write(2, f"{words}\n".encode())
    os._exit(code)


def _leave_screen() -> None:
    """Write no more to a terminal that was closed or to a pipe that nobody reads."""
    for descriptor in (1, 2):
        mode = os.fstat(descriptor).st_mode
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
        if stat.S_ISCHR(mode) or (stat.S_ISFIFO(mode) and gone):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
