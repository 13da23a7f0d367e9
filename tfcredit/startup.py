"""TensorFlow's start without its banners."""

import os
import sys
import tempfile

_BANNERS = (b"All log messages before absl::InitializeLog()", b"oneDNN custom operations are on")


def import_tensorflow() -> None:
    """Import TensorFlow, and print what it says but its banners.

    Called by commands, which have nothing to say about processors. TensorFlow's messages come from
    C++, so they are caught at the file descriptor. TF_CPP_MIN_LOG_LEVEL silences most of them, but
    not these: TensorFlow 2.21 prints two lines, twice, at each of its levels from 0 to 3.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no information, but warnings and errors
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            said.seek(0)
            for line in said:
                if not any(banner in line for banner in _BANNERS):
                    os.write(2, line)
