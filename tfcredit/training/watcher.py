"""A process that watches another one wait for its fellow workers; see `workers.awaited`.

It reads what to do from its input. The other process writes a second line once all are there, and
closes it by its end.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys


def main() -> None:
    """Waits for the second line; interrupts the other process when time is up."""
    task = json.loads(sys.stdin.readline())
    ready, _, _ = select.select([sys.stdin], [], [], task["seconds"])
    if ready:
        if not sys.stdin.readline():
            _say(f"{task['name']} was stopped while it waited for the other workers.")
        return
    silent = [each for each in task["others"] if not _answers(each)]
    listed = ", ".join(silent or task["others"])
    lacking = (
        "do not answer" if len(silent) > 1 else "does not answer" if silent else "did not join"
    )
    _say(
        f"{task['name']} waited {task['seconds']:g} s for the other workers; {listed} {lacking}: "
        "start all of them, and check names, ports and firewalls."
    )
    with contextlib.suppress(ProcessLookupError):
        os.kill(task["pid"], signal.SIGINT)


def _answers(address: str) -> bool:
    """True if something listens at an address."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except (OSError, ValueError):
        return False


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"tfcredit: {sentence}\n".encode())


if __name__ == "__main__":
    main()
