"""Branches, loops and functions of TensorFlow inside of a network, out of which no tensor gets."""

import sys
import types

import tensorflow as tf

from tfcredit.errors import UserError

_VECTORIZED = "tf.vectorized_map"
_MARKS = {
    "func_graph_from_py_func": "a branch, loop or function of TensorFlow",
    "_pfor_impl": _VECTORIZED,
}


def inner_graphs() -> tuple[str, ...]:
    """What graphs of their own stand between the outermost call of a Keras layer and the caller.

    A whole training step in a `tf.function` or in a loop is none: what leaves the call of the
    network stays in its graph. Eager branches and loops are Python's.

    Returns:
        Their names for a message, the innermost first.
    """
    # Keras tells which layer's call is the outermost, but not in which graph it began.
    frame, found, inside = sys._getframe(1), [], ()
    while frame is not None:
        if frame.f_code.co_name in _MARKS:
            found.append(_MARKS[frame.f_code.co_name])
        elif frame.f_code.co_qualname == "Layer.__call__":
            inside = tuple(found)
        frame = frame.f_back
    return inside


def refuse_vectorized_map(layer: str) -> None:
    """Refuse a training call where TensorFlow (2.21) drops custom gradients without a word.

    It does where gradients pass from outside into what was mapped. A tape that is opened within,
    as for the gradients of single examples, gets the right ones.

    Args:
        layer: The layer's name.

    Raises:
        UserError: The caller is inside of `tf.vectorized_map`, and no tape is between them.
    """
    frame, between = sys._getframe(1), []
    while frame is not None and _MARKS.get(frame.f_code.co_name) != _VECTORIZED:
        between.append(frame)
        frame = frame.f_back
    if frame is None or any(map(_has_tape, between)):
        return
    raise UserError(
        f"layer {layer!r} is trained inside of {_VECTORIZED}, which loses its gradients: give it "
        "the whole batch, give a TimeDistributed around it a known number of steps, take "
        "tf.map_fn, open the tape inside, or give it rule='backprop'."
    )


def _has_tape(frame: types.FrameType) -> bool:
    return any(isinstance(value, tf.GradientTape) for value in frame.f_locals.values())
