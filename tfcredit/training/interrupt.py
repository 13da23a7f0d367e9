"""Signals that ask a run to save and end: pre-emption, a closed session, Ctrl-C."""

import contextlib
import os
import select
import signal
import stat
import threading

NAMES = {
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
    signal.SIGINT: "Ctrl-C",
}
"""Signal -> its name for users."""
AT_ONCE = 130
"""The exit code after a second Ctrl-C, as shells give it."""


class StopSignal:
    """Remembers that SIGTERM, SIGHUP or Ctrl-C came, so that the run can end between two steps.

    A second Ctrl-C ends the process at once, even in the middle of a step. A signal that is ignored
    stays ignored, as `nohup` wants it. A context manager; the process' own handlers are back in
    place after it. Outside the main thread, which alone gets signals, it does nothing.

    Attributes:
        by: The name of the signal that came first; `None` if none came.
    """

    def __init__(self):
        self.by: str | None = None

    @property
    def asked(self) -> bool:
        """True if one came."""
        return self.by is not None

    def __enter__(self) -> "StopSignal":
        self._before = {}
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
        if not self._before:
            return
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._listener.join()
        os.close(self._read)

    def _ask(self, number, frame) -> None:
        self.by = self.by or NAMES[number]
        if number == signal.SIGHUP:
            _leave_screen()

    def _listen(self) -> None:
        interrupts = 0
        while numbers := os.read(self._read, 64):
            interrupts += numbers.count(signal.SIGINT) if signal.SIGINT in self._before else 0
            if interrupts > 1:
                with contextlib.suppress(OSError):
                    os.write(2, b"Stopped at once by a second Ctrl-C; checkpoints are intact.\n")
                os._exit(AT_ONCE)


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
