"""Runs from recipes: flags, training step, checkpoints, run directory."""
