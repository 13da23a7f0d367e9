"""Benchmarks of what rules cost over backprop: `python -m benchmarks --help`."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

ROOT = Path(__file__).resolve().parents[1]
