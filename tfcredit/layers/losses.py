"""The losses that a layer adds, apart for each thread."""

import threading
import weakref
from collections.abc import Callable

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.layers.inner_graphs import inner_graphs


class _ThreadLosses(threading.local):
    """The losses that each layer has added in this thread."""

    def __init__(self):
        self.of_layer = weakref.WeakKeyDictionary()


_THREAD_LOSSES = _ThreadLosses()


class ThreadLosses:
    """Mixin of layers that add losses: stands before the Keras class in the bases."""

    @property
    def _losses(self) -> list:
        """Losses that `add_loss` has added in this thread; Keras keeps one list for all threads.

        Under `MirroredStrategy` every local replica runs in a thread of its own, and synchronised
        batch normalisation switches between them in the middle of the forward pass. With one list
        (Keras 3.15) a replica then cleared the R of another, without an exception: after 3 steps
        feedback kernels were off by 7e-3.
        """
        return _THREAD_LOSSES.of_layer.setdefault(self, [])

    @_losses.setter
    def _losses(self, losses: list):
        _THREAD_LOSSES.of_layer[self] = losses

    def add_alignment_loss(self, loss: tf.Tensor):
        """`add_loss` of a loss by which the feedback kernel learns.

        Args:
            loss: A scalar; in half precision it gets Keras' dtype of losses.

        Raises:
            UserError: The layer is called where no loss gets out.
        """
        inside = inner_graphs()
        if inside:
            raise UserError(
                f"layer {self.name!r} adds a loss that teaches its feedback kernel, but is called "
                f"inside of {inside[0]}, which no loss leaves: call it outside, loop over it in "
                "Python, or give it rule='feedback_alignment'."
            )
        loss = tf.convert_to_tensor(loss)
        if loss.dtype.size < 4:
            # Keras sums it with the task's loss, whose dtype is this one under every policy.
            loss = tf.cast(loss, keras.config.floatx())
        self.add_loss(loss)

    @property
    def alignment_losses(self) -> list:
        """What this thread's training calls since the last step have added: `losses` but W's."""
        return list(self._losses)


def penalty(regularizer: Callable, weight: keras.Variable | tf.Tensor) -> tf.Tensor:
    """What a regularizer adds to the loss for a weight.

    Args:
        regularizer: Of the weight.
        weight: The weight, or its value.

    Returns:
        A scalar in the weight's dtype.
    """
    if type(regularizer) is not keras.regularizers.L2:
        return regularizer(weight)
    # Keras (3.15) sums a square: with the gradient that is nine passes over the weight, this three.
    return 2.0 * regularizer.l2 * tf.nn.l2_loss(tf.convert_to_tensor(weight))


class FollowedDecay:
    """What W's regularizer does to W, for a B that gets every update of W: a gradient, and no loss.

    Args:
        kernel: W. Where it is not trainable, B has nothing to follow.
    """

    def __init__(self, kernel: keras.Variable):
        self.kernel = kernel

    def __call__(self, feedback_kernel: keras.Variable) -> tf.Tensor:
        """Zero, whose gradient is that of W's regularizer at B.

        Args:
            feedback_kernel: B.

        Returns:
            A scalar.
        """
        if not self.kernel.trainable:
            return tf.zeros([], feedback_kernel.dtype)
        return self._nothing(tf.convert_to_tensor(feedback_kernel))

    @tf.custom_gradient
    def _nothing(self, feedback_kernel: tf.Tensor):
        """Not loss - stop_gradient(loss): each pass over a kernel counts."""

        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch(feedback_kernel)
                loss = penalty(self.kernel.regularizer, feedback_kernel)
            return tape.gradient(loss, feedback_kernel, upstream)

        return tf.zeros([], feedback_kernel.dtype), gradient
