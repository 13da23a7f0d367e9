"""Runs compared on one HTML page: the command `tfcredit report`."""

from tfcredit.report.reading import StoredRun, find_runs

__all__ = ["StoredRun", "find_runs"]
