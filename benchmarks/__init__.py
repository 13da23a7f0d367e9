"""Benchmarks of what rules cost over backprop: `python -m benchmarks --help`."""

import os
from pathlib import Path

from tfcredit.startup import keep_memory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
keep_memory()  # as the commands that train do

ROOT = Path(__file__).resolve().parents[1]
