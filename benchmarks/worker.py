"""Processes of their own for measurements: `call` starts one, and this module is what it runs."""

import json
import signal
import subprocess
import sys
from typing import Any

from benchmarks import ROOT


def call(name: str, **arguments: Any) -> Any:
    """Runs a function of `benchmarks.measures` in a process of its own.

    Args:
        name: The function's name.
        **arguments: Its arguments, as plain data.

    Returns:
        What the function gives.

    Raises:
        RuntimeError: The process failed; the message says how it ended, and then what it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", name, json.dumps(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        code = done.returncode
        ended = f"exit code {code}" if code > 0 else f"signal {-code}: {signal.strsignal(-code)}"
        raise RuntimeError(f"{name}({arguments}) ended with {ended}. {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures and prints the result as JSON in the last line."""
    from benchmarks import measures

    name, arguments = sys.argv[1:]
    print("\n" + json.dumps(getattr(measures, name)(**json.loads(arguments))))


if __name__ == "__main__":
    main()
