"""Measures of credit assignment: functions of a model that give records, flat dictionaries."""

from tfcredit.analysis.alignment import alignment, angle, feedback_layers, kernel_layers
from tfcredit.analysis.batch import BatchMeasure
from tfcredit.analysis.chain import joint_eigenvalues
from tfcredit.analysis.errors import ErrorAngles, ErrorSpectra
from tfcredit.analysis.observables import Observables
from tfcredit.analysis.robustness import robust_accuracy
from tfcredit.analysis.spectra import (
    effective_rank,
    effective_ranks,
    kernel_matrix,
    singular_values,
    spectra,
)
from tfcredit.analysis.stability import safe_rates, spectrum
from tfcredit.analysis.statistics import Interval, bootstrap_mean, interval
from tfcredit.records import read_csv, write_csv

__all__ = [
    "BatchMeasure",
    "ErrorAngles",
    "ErrorSpectra",
    "Interval",
    "Observables",
    "alignment",
    "angle",
    "bootstrap_mean",
    "effective_rank",
    "effective_ranks",
    "feedback_layers",
    "interval",
    "joint_eigenvalues",
    "kernel_layers",
    "kernel_matrix",
    "read_csv",
    "robust_accuracy",
    "safe_rates",
    "singular_values",
    "spectra",
    "spectrum",
    "write_csv",
]
