"""Train a network without weight transport; `--help` lists the flags."""

import sys

from tfcredit.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
