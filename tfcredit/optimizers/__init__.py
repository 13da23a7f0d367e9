"""Optimizers: separate ones for forward and feedback weights, noisy updates, and names for all."""

from tfcredit.optimizers.factory import get, names
from tfcredit.optimizers.noisy import NoisyOptimizer
from tfcredit.optimizers.partitioned import PartitionedOptimizer

__all__ = ["NoisyOptimizer", "PartitionedOptimizer", "get", "names"]
