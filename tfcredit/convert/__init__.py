"""Keras networks to networks of feedback layers, and back."""

from tfcredit.convert.applications import load_applications_weights
from tfcredit.convert.backprop import to_backprop
from tfcredit.convert.feedback import to_feedback
from tfcredit.convert.reference import (
    ReferenceReport,
    load_reference_checkpoint,
    reference_network,
)
from tfcredit.convert.reporting import report, table

__all__ = [
    "ReferenceReport",
    "load_applications_weights",
    "load_reference_checkpoint",
    "reference_network",
    "report",
    "table",
    "to_backprop",
    "to_feedback",
]
