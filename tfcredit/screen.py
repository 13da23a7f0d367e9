"""What commands print goes on where nobody can read it: a closed pipe, a full disk, no terminal."""

import contextlib
import os
import sys
from typing import Any, TextIO


class _Stream:
    """A stream of text that writes into nothing from its first failure on.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.problem: OSError | None = None

    def write(self, text: str) -> int:
        """See `TextIO.write`."""
        with self._going_on():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """See `TextIO.flush`."""
        with self._going_on():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _going_on(self):
        try:
            yield
        except OSError as problem:
            self.problem = problem
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is buffered goes there too
            os.close(nowhere)


class Screen:
    """Lets a command go on when what it prints can't be written; a context manager.

    Else the first line after `| head` has ended, or on a full disk, would end a training, and be
    taken for a failure of its run directory. Standard streams that are closed lead to nowhere:
    files that are opened would else get their numbers, and messages of C++ code.
    """

    def __enter__(self) -> "Screen":
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass  # the lowest that is free
        os.close(descriptor)
        self._before = sys.stdout, sys.stderr
        streams = (stream or open(os.devnull, "w") for stream in self._before)
        sys.stdout, sys.stderr = self._streams = [_Stream(stream) for stream in streams]
        return self

    def __exit__(self, *problem) -> None:
        for stream in self._streams:
            stream.flush()
        sys.stdout, sys.stderr = self._before

    @property
    def problem(self) -> OSError | None:
        """Why results were not printed; `None` if they were, or if their reader has left."""
        sys.stdout.flush()
        problem = self._streams[0].problem
        return None if isinstance(problem, BrokenPipeError) else problem
