"""TensorFlow's start: without its banners, and as the backend of Keras."""

import gc
import importlib
import json
import os
import pathlib
import sys
import tempfile

from tfcredit.errors import UserError

_BANNERS = (b"All log messages before absl::InitializeLog()", b"oneDNN custom operations are on")


def check_backend() -> None:
    """Check, without importing Keras, that TensorFlow is its backend.

    Raises:
        UserError: Another one is chosen.
    """
    name, place = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if not name:
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        place = os.path.join(home, "keras.json")
        try:
            name = json.loads(pathlib.Path(place).read_text()).get("backend")
        except (OSError, ValueError, AttributeError):
            return  # Keras takes TensorFlow too, then.
    if name not in (None, "", "tensorflow"):
        raise UserError(
            f"Keras' backend is {name!r} by {place}, but tfcredit computes with TensorFlow: set "
            "the environment variable KERAS_BACKEND=tensorflow."
        )


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
    # The import makes objects that stay; looking through them for garbage takes a quarter of it (3
    # of 11 s of processor time, TensorFlow 2.21).
    collects = gc.isenabled()
    gc.disable()
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        finally:
            if collects:
                gc.enable()
            os.dup2(screen, 2)
            os.close(screen)
            said.seek(0)
            for line in said:
                if not any(banner in line for banner in _BANNERS):
                    os.write(2, line)
