"""Measures of credit assignment."""

from tfcredit.analysis.alignment import alignment, angle, feedback_layers
from tfcredit.analysis.chain import joint_eigenvalues
from tfcredit.analysis.stability import safe_rates, spectrum

__all__ = ["alignment", "angle", "feedback_layers", "joint_eigenvalues", "safe_rates", "spectrum"]
