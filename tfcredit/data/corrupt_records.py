"""Corrupt records: a log that counts and names them, and refuses too many."""

import re
import sys
import threading
from typing import NamedTuple

import tensorflow as tf

from tfcredit.errors import UserError


class CorruptRecord(NamedTuple):
    """A record that was left out.

    Attributes:
        file: Its file.
        record: Its number in the file, counted from 0; None of a file that is one image.
        reason: The cause, such as "its image can't be decoded".
    """

    file: str
    record: int | None
    reason: str


class CorruptLog:
    """A log of the corrupt records that were met so far, each once however often it is read.

    Attributes:
        records: The `CorruptRecord`s in the order in which they were met.
        limit: Number that is allowed.
    """

    def __init__(self, limit: int = 0) -> None:
        """Starts without any.

        Args:
            limit: Number that is allowed.

        Raises:
            UserError: If the limit is negative.
        """
        if limit < 0:
            raise UserError(f"max_corrupt_records {limit} is negative: choose 0 or more.")
        self.limit = limit
        self.records: list[CorruptRecord] = []
        self._seen: set[tuple[str, int | None]] = set()
        self._lock = threading.Lock()

    def report(self, file: str, record: int | None, reason: str) -> None:
        """Counts a record and prints a line to stderr if it is a new one.

        Args:
            file: Its file.
            record: Its number in the file, counted from 0; None if the file is one image.
            reason: The cause, as part of a sentence.

        Raises:
            UserError: If there are now more than the limit.
        """
        name = file if record is None else f"record {record} of {file}"
        with self._lock:
            if (file, record) not in self._seen:
                self._seen.add((file, record))
                self.records.append(CorruptRecord(file, record, reason))
                print(f"corrupt: {name}: {reason}.", file=sys.stderr)
            count = len(self.records)
        if count > self.limit:
            raise UserError(
                f"{name} is corrupt ({reason}), number {count} where at most "
                f"{self.limit} were allowed: mend the file or raise max_corrupt_records."
            )


def failure(error: BaseException) -> UserError | None:
    """Finds the user's mistake in an error that was raised while batches were read.

    TensorFlow turns a `UserError` raised in its threads into an error of its own.

    Args:
        error: The exception that iterating over a dataset raised.

    Returns:
        The error with its sentence, or None if the data are not its cause.
    """
    if isinstance(error, UserError):
        return error
    if not isinstance(error, tf.errors.OpError):
        return None
    found = re.search(r"UserError: ([^\n]+)", str(error.message))
    return UserError(found[1].strip()) if found else None
