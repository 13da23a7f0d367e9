"""Blocks whose activity is computed again in the backward pass, to save memory.

`tf.recompute_grad`, which `keras.RematScope` uses, runs a block once while no tape records, and
again in the backward pass under a tape of the block's own. A layer in it learns in the first run,
and keeps what the call has read and made; later runs route errors with that. Nothing but the stack
tells one run from the other, or which first run a later one repeats.
"""

import contextlib
import dataclasses
import sys
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe  # No public name restarts what `recompute_grad` stops.

_FIRST = "recompute_grad.<locals>.inner"
_AGAIN = "recompute_grad.<locals>.inner.<locals>.grad_wrapper.<locals>.inner_recompute_grad"


class _Kept:
    """Things that the layers in one call of a block keep for the block's later runs.

    Args:
        call: The keyword arguments of the call, a dictionary that TensorFlow makes for it alone and
            holds as long as the block may be run again: it stands for the call.
    """

    def __init__(self, call: dict):
        self.call = call
        self._kept = weakref.WeakKeyDictionary()
        self._repetition = lambda: None
        self._next = weakref.WeakKeyDictionary()

    @property
    def references(self) -> int:
        """How many hold the call."""
        return sys.getrefcount(self.call)

    def keep(self, layer: Any, what: Any) -> None:
        """Append what a call of a layer keeps."""
        self._kept.setdefault(layer, []).append(what)

    def recall(self, layer: Any, repetition: Any) -> Any:
        """The thing that the layer's next call in a repetition kept in the first run, or `None`."""
        if self._repetition() is not repetition:
            self._repetition, self._next = weakref.ref(repetition), weakref.WeakKeyDictionary()
        index, kept = self._next.get(layer, 0), self._kept.get(layer, [])
        self._next[layer] = index + 1
        return kept[index] if index < len(kept) else None


_KEPT: dict[int, _Kept] = {}
_HELD_BY_NONE = _Kept({})


def _kept_by(frame: FrameType) -> _Kept:
    """That of the call of a block which a frame belongs to."""
    call = frame.f_locals["kwargs"]
    if id(call) not in _KEPT:
        for key, kept in list(_KEPT.items()):
            if kept.references <= _HELD_BY_NONE.references:
                _KEPT.pop(key, None)
        _KEPT[id(call)] = _Kept(call)
    return _KEPT[id(call)]


@dataclasses.dataclass(frozen=True)
class BlockRun:
    """A run of a block in the middle of which the caller is.

    Attributes:
        repeated: What the run that this one repeats has kept; `None` for a first run.
        repetition: An object that stands for the repetition.
        entered: What is kept of all blocks that are run for the first time here, or for the first
            time inside of a repetition: each is repeated on its own.
        is_cached: Whether a `tf.function` between block and caller keeps what it does for later
            runs, which Python does not see.
    """

    repeated: _Kept | None
    repetition: Any
    entered: tuple[_Kept, ...]
    is_cached: bool

    def keep(self, layer: Any, what: Any) -> None:
        """Keep something of a layer's call for the call's repetitions.

        Args:
            layer: The layer; it keeps something, or `None`, in each of its calls.
            what: Anything.
        """
        for kept in self.entered:
            kept.keep(layer, what)

    def recall(self, layer: Any) -> Any:
        """The thing that the layer kept in the call that this one repeats.

        Args:
            layer: The layer; each of its calls in a run recalls once, in their order.

        Returns:
            What it kept, or `None`.
        """
        what = self.repeated.recall(layer, self.repetition)
        self.keep(layer, what)
        return what


def block_run() -> BlockRun | None:
    """The run of a recomputed block that the caller is in; `None` outside of such blocks."""
    frame, entered, is_cached, function = sys._getframe(1), [], False, False
    while frame is not None:
        name = frame.f_code.co_qualname
        if name == "func_graph_from_py_func":
            function = True
        elif name in (_FIRST, _AGAIN) and "custom_gradient" in frame.f_code.co_filename:
            is_cached |= function
            if name == _AGAIN:
                kept, tape = _kept_by(frame), frame.f_locals["t"]
                return BlockRun(kept, tape, tuple(entered), is_cached)
            entered.append(_kept_by(frame))
        frame = frame.f_back
    return BlockRun(None, None, tuple(entered), is_cached) if entered else None


@contextlib.contextmanager
def recording(run: BlockRun | None) -> Iterator[None]:
    """Tapes record inside, in a block's first run too.

    Args:
        run: The caller's; `None` outside of recomputed blocks, where nothing is to be done.
    """
    if run is None or run.repeated is not None or not pywrap_tfe.TFE_Py_TapeSetIsStopped():
        yield
        return
    pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    try:
        yield
    finally:
        pywrap_tfe.TFE_Py_TapeSetStopOnThread()


@tf.custom_gradient
def with_value(value: tf.Tensor, read: tf.Tensor) -> tf.Tensor:
    """`value`, whose gradient is that of `read`."""
    return tf.identity(value), lambda upstream: (None, upstream)
