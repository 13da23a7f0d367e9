"""Which training images are held out for validation: a function of a seed alone."""

from collections.abc import Sequence

import numpy as np

from tfcredit.seeding import derive

READ = 100_000
"""Records of all files together among which those that are held out are drawn, if they suffice."""


def drawn(total: int, examples: int, seed: int) -> np.ndarray:
    """Draws some of the training images.

    Args:
        total: Number of training images.
        examples: Number of those that are drawn.
        seed: Seed of the draw.

    Returns:
        bool of shape (`total`,): True for images that are held out.
    """
    # RandomState and not default_rng: NumPy promises that its stream never changes.
    order = np.random.RandomState(derive(seed, "data", "validation")).permutation(total)
    held = np.zeros(total, bool)
    held[order[:examples]] = True
    return held


def drawn_of_files(counts: Sequence[int], examples: int, seed: int) -> np.ndarray:
    """Draws some of the records of files, from each in proportion.

    They are drawn among the first records of each file, so that reading them does not take a pass
    over all: of ImageNet's 1024 files among the first 97.

    Args:
        counts: Number of records in each file.
        examples: Number of those that are drawn, less than there are.
        seed: Seed of the draw.

    Returns:
        bool of shape (files, n): True for records that are held out, by file and number in it.
        Records from number n on are not.
    """
    random = np.random.RandomState(derive(seed, "data", "validation"))
    shares = np.diff(np.cumsum([0, *counts]) * examples // sum(counts))
    firsts = np.minimum(counts, np.maximum(4 * shares, READ // len(counts)))
    held = np.zeros((len(counts), max(firsts)), bool)
    for row, share, first in zip(held, shares, firsts, strict=True):
        row[random.permutation(first)[:share]] = True
    return held


def drawn_of_groups(groups: np.ndarray, examples: int, seed: int) -> np.ndarray:
    """Draws some of the training images, from as few groups as hold so many.

    So reading them does not take a pass over all.

    Args:
        groups: int64 of shape (images,): the group of each image, counted from 0.
        examples: Number of those that are drawn.
        seed: Seed of the draw.

    Returns:
        bool of shape (images,): True for images that are held out.
    """
    random = np.random.RandomState(derive(seed, "data", "validation"))
    rank = random.permutation(groups.max() + 1)
    held = np.zeros(len(groups), bool)
    held[np.argsort(rank[groups], kind="stable")[:examples]] = True
    return held
