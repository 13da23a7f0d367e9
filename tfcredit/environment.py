"""Versions, machine and settings that results depend on."""

import os
import platform
import subprocess

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

import tfcredit


def environment() -> dict:
    """Versions, machine and settings that results depend on."""
    here = os.path.dirname(os.path.abspath(tfcredit.__file__))
    revision = subprocess.run(
        ["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "versions": {
            "tfcredit": tfcredit.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "git_revision": revision.stdout.strip() or None,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "onednn": "on" if _pywrap_util_port.IsMklEnabled() else "off",
    }
