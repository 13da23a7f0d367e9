"""Set-up of the whole test suite."""

import collections
import gc
import os

# Before TensorFlow is imported anywhere. It has oneDNN off by default on CPUs without AVX-512 VNNI
# or its like; there Keras' own layers refuse channels-first images, which tests compare ours with.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from tensorflow.python.autograph.impl import api as autograph
from tensorflow.python.framework.config import disable_op_determinism
from tensorflow.python.framework.ops import gradient_registry

ROOT = Path(__file__).resolve().parents[1]

TWO_CPUS = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""


def pytest_configure(config):
    # Keras 3.15 on NumPy 2: every conversion of a variable, so every saved model, warns.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    )


LONG = [
    "test_survival",
    "test_two_routes",
    "test_docs",
    "test_search",
    "test_storage",
    "test_compare",
    "test_tensorboard",
    "test_run",
]
TOGETHER = ["test_survival", "test_strategies", "test_search", "test_tensorboard", "test_run"]
TOGETHER += ["test_storage", "test_compare", "test_own_images", "test_miniature_imagenet"]
TOGETHER += ["test_damaged_comparisons"]
"""Modules with fixtures that take long: one parallel worker has all their tests."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items):
    cases: collections.Counter[tuple] = collections.Counter()
    for item in items:
        if item.path.stem in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        if every := item.get_closest_marker("every"):
            function = item.path, item.originalname
            if cases[function] % every.args[0]:
                item.add_marker(pytest.mark.slow)
            cases[function] += 1

    # Long tests first, so that parallel workers end at about the same time.
    def place(item):
        name = item.path.stem
        processes = item.get_closest_marker("multi_device") is not None
        return not processes, LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Garbage is looked for among what tests make, not among all that libraries hold.

    And more seldom: Python's own thresholds cost a twelfth of the tests' time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


@pytest.fixture(scope="module", autouse=True)
def freed_graphs():
    """The graphs of a module's networks are freed after it.

    TensorFlow (2.21) keeps the gradient of each use of a `tf.custom_gradient` for ever, and with it
    the graph: that of each training step, Keras' own included. A process of these tests grew to 4
    to 9 GB.
    """
    known = set(gradient_registry.list())
    yield
    for name in set(gradient_registry.list()) - known:
        if name.startswith("CustomGradient-"):
            del gradient_registry._registry[name]
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)
    yield
    disable_op_determinism()  # which a run in this process may have asked for; Keras refuses XLA


@pytest.fixture
def translated(monkeypatch) -> list[Callable]:
    """The functions that AutoGraph translates while the test runs."""
    found: list[Callable] = []
    translate = autograph._convert_actual

    def noting(function, context):
        found.append(function)
        return translate(function, context)

    monkeypatch.setattr(autograph, "_convert_actual", noting)
    return found


@pytest.fixture
def two_cpus() -> Callable[[str], str]:
    """Run a script in a process of its own where `strategy` mirrors over two logical CPUs.

    Logical devices must be configured before TensorFlow starts, which this process has done.
    """

    def run(script: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", TWO_CPUS + script, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run
