"""Studies: what the project's tables and figures come from, `python -m studies`."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASELINE = "frozen"
"""The rule of random features, a row of every study that compares rules by accuracy.

What lies below it was learned by the top layer and by layers without a rule, such as batch norm:
the feedback taught nothing.
"""
