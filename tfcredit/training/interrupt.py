"""Pre-emption: SIGTERM asks a run to save and end."""

import signal


class StopSignal:
    """Remembers that SIGTERM came, so that the run can end between two steps.

    A context manager; the process' own handler is back in place after it.
    """

    def __init__(self):
        self.asked = False

    def __enter__(self) -> "StopSignal":
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *problem) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number, frame) -> None:
        self.asked = True
