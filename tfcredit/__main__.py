"""`python -m tfcredit`, which is the console script `tfcredit`."""

import sys

from tfcredit.cli import main

if __name__ == "__main__":
    sys.exit(main())
