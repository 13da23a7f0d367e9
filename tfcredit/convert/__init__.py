"""Keras networks to networks of feedback layers, and back."""

from tfcredit.convert.to_keras import to_backprop

__all__ = ["to_backprop"]
