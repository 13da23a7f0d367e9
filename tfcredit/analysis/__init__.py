"""Measures of credit assignment."""

from tfcredit.analysis.alignment import alignment, angle, feedback_layers

__all__ = ["alignment", "angle", "feedback_layers"]
