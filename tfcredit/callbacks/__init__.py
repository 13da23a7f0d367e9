"""Keras callbacks that watch credit assignment and record it."""

from tfcredit.callbacks.alignment import AlignmentMonitor
from tfcredit.callbacks.measures import MeasureMonitor
from tfcredit.callbacks.run_directory import RunDirectory
from tfcredit.callbacks.skipped import SkippedSteps
from tfcredit.callbacks.table import EpochTable

__all__ = ["AlignmentMonitor", "EpochTable", "MeasureMonitor", "RunDirectory", "SkippedSteps"]
