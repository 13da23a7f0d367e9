"""Optimizers: separate ones for forward and feedback weights, noisy updates, and names for all."""

from tfcredit.optimizers.lars import LARS
from tfcredit.optimizers.noisy import NoisyOptimizer
from tfcredit.optimizers.partitioned import PartitionedOptimizer
from tfcredit.optimizers.radam import RAdam
from tfcredit.optimizers.registry import get, names

__all__ = ["LARS", "NoisyOptimizer", "PartitionedOptimizer", "RAdam", "get", "names"]
