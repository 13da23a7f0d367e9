"""Seeds that belong to a name, so that no two random draws of a network are the same."""

import random
import zlib


def derive(seed: int, *names: str | int) -> int:
    """A seed of its own for `names`, a function of `seed` and the names alone.

    Args:
        seed: The seed that the user controls.
        *names: What the seed is for, such as a layer's name and `"feedback_kernel"`.

    Returns:
        An integer in [0, 2**31).

    Example:
        >>> derive(1, "conv0", "kernel") == derive(1, "conv0", "feedback_kernel")
        False
    """
    text = "/".join(str(part) for part in (seed, *names))
    return zlib.crc32(text.encode()) & 0x7FFFFFFF


def default_seed() -> int:
    """A seed from Python's generator, which `keras.utils.set_random_seed` controls, as in Keras."""
    return random.randint(1, int(1e9))
