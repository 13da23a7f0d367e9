"""TensorFlow's start: as the backend of Keras, without banners, and with memory that it keeps."""

import ctypes
import gc
import importlib
import json
import os
import pathlib
import sys
import tempfile
from typing import BinaryIO

from tfcredit.errors import UserError

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 2**30
# The most cores whose threads share one arena. On more they might wait for each other.
_FEW_CORES = 8
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


def keep_memory() -> bool:
    """Let the GNU C library keep memory that TensorFlow frees, for the next tensor of that size.

    Tensors above 32 MB are else mapped and unmapped one by one, and the system clears every page of
    each: such are a batch of 64 images of 224 pixels, and the first activities of an ImageNet
    network. (`python -m benchmarks.kept_memory`, one round, glibc 2.36, 2 cores: a ResNet-18 step
    has 1,100 page faults for 124,500, and takes 0 to 10 % less processor time; preparing an image
    takes 19 % less; the peak changes by -7 to 4 %.) On machines of up to 8 cores all threads share
    one arena; on others tensors above 64 MB, an arena's largest block, are mapped as before. It
    holds to the end of the process and in what it forks: for commands, not for programs that use
    the package.

    Variables of the environment that state how memory is allocated are left in force.

    Returns:
        True if that library is told so. (Another allocator may be in its place.)
    """
    stated = any(name.startswith("MALLOC_") for name in os.environ)
    if stated or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    allocator = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # Before glibc 2.35 no tensor can be kept that is above 32 MB.
    if allocator is None or not allocator(_M_MMAP_THRESHOLD, _LARGEST_KEPT):
        return False
    if (os.cpu_count() or 1) <= _FEW_CORES:
        allocator(_M_ARENA_MAX, 1)
    return bool(allocator(_M_TRIM_THRESHOLD, _LARGEST_KEPT))


def _file_in_memory() -> BinaryIO:
    """A file without a name; there may be no place for temporary files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("tfcredit"), "w+b")
    return tempfile.TemporaryFile()


def import_tensorflow() -> None:
    """Import TensorFlow as commands use it; print what it says but its banners.

    Called by commands, which have nothing to say about processors. TensorFlow's messages come from
    C++, so they are caught at the file descriptor. TF_CPP_MIN_LOG_LEVEL silences most of them, but
    not these: TensorFlow 2.21 prints two lines, twice, at each of its levels from 0 to 3.
    """
    keep_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no information, but warnings and errors
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    screen = os.dup(2)
    # The import makes objects that stay; looking through them for garbage takes a quarter of it (3
    # of 11 s of processor time, TensorFlow 2.21).
    collects = gc.isenabled()
    gc.disable()
    with _file_in_memory() as said:
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
