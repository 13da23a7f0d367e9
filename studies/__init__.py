"""Studies: what the project's tables and figures come from, `python -m studies`."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

ROOT = pathlib.Path(__file__).resolve().parents[1]
