"""Set-up of the tests and of the examples in docstrings."""

import pytest


def pytest_addoption(parser):
    """Add the option of the tests in a browser."""
    text = "keep pictures of TensorBoard's pages in this folder"
    parser.addoption("--screenshots", metavar="FOLDER", help=text)


@pytest.fixture(autouse=True)
def registries():
    """What a test or an example registers is gone after it."""
    from tfcredit.primitives import PRIMITIVES
    from tfcredit.rules.registry import _RULES

    known = [(registry, dict(registry)) for registry in (PRIMITIVES, _RULES)]
    yield
    for registry, before in known:
        registry.clear()
        registry.update(before)
