"""The archives that a test prepares, and where to."""

from pathlib import Path

import pytest

from tests.prepare.ilsvrc import make_source


@pytest.fixture
def source(tmp_path) -> Path:
    return make_source(tmp_path / "archives")


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "shards"
