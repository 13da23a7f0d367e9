from .applications import load_applications_weights
from .backprop import to_backprop
from .feedback import to_feedback
from .reference import (
    ReferenceReport,
    load_reference_checkpoint,
    reference_network,
)
from .reporting import report, table

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
