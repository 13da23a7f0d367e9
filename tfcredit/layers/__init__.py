"""Keras layers whose errors travel through feedback kernels."""

from tfcredit.layers.conv2d import Conv2D
from tfcredit.layers.dense import Dense
from tfcredit.layers.feedback import FeedbackLayer

__all__ = ["Conv2D", "Dense", "FeedbackLayer"]
