"""Train a network without weight transport; `--help` lists the flags."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from tfcredit.training.cli import train_main  # noqa: E402

if __name__ == "__main__":
    sys.exit(train_main())
