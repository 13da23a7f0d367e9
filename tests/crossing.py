"""Cross products of which `make test` takes a share, and `make test-slow` the rest."""

import itertools

import pytest


def crossed(*axes, quick):
    """The product of axes, for `pytest.mark.parametrize`.

    Args:
        *axes: The values of each parameter; names of a table, for instance.
        quick: A function of one combination: whether it is cheap, or the only one of its kind.
            All others are marked slow.

    Returns:
        A list of `pytest.param`.
    """
    return [
        pytest.param(*each, marks=[] if quick(*each) else pytest.mark.slow)
        for each in itertools.product(*axes)
    ]
