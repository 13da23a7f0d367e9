"""Keras callbacks that watch credit assignment."""

from tfcredit.callbacks.alignment import AlignmentMonitor
from tfcredit.callbacks.measures import MeasureMonitor
from tfcredit.callbacks.skipped import SkippedSteps
from tfcredit.callbacks.table import EpochTable

__all__ = ["AlignmentMonitor", "EpochTable", "MeasureMonitor", "SkippedSteps"]
