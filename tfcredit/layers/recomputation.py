"""Blocks whose activity is computed again in the backward pass, to save memory."""

import sys


def is_recomputed() -> bool:
    """True inside of a function that TensorFlow runs again in the backward pass.

    Such is a call of `tf.recompute_grad`, which `keras.RematScope` uses. Nothing but the stack
    tells of it: the first of its runs is one in which no tape records, as any outside of training.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_qualname.startswith("recompute_grad.") and "custom_gradient" in code.co_filename:
            return True
        frame = frame.f_back
    return False
