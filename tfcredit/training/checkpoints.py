"""Checkpoints of all state of a training."""

import pathlib
from collections.abc import Sequence

import tensorflow as tf

from tfcredit.errors import UserError


class Checkpoints:
    """Saves and restores an explicit list of variables and the step.

    An explicit list, since `tf.train.Checkpoint` on a Keras model or optimizer leaves out what
    Keras does not track as TensorFlow does (seed states, inner optimizers of `MultiOptimizer`)
    and says nothing.

    Args:
        folder: Where the checkpoints lie.
        variables: All state, in an order that does not change.
        keep: Number of checkpoints kept.
    """

    def __init__(self, folder: pathlib.Path, variables: Sequence[tf.Variable], keep: int = 3):
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        state = {f"variable_{i}": variable for i, variable in enumerate(variables)}
        self._checkpoint = tf.train.Checkpoint(step=self.step, **state)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=keep, step_counter=self.step
        )

    @property
    def latest(self) -> str | None:
        """The newest checkpoint, or `None`."""
        return self._manager.latest_checkpoint

    def save(self, step: int) -> str:
        """Write a checkpoint for `step`; a failure leaves the earlier ones as they were.

        Raises:
            UserError: The folder can't be written, or the disk is full.
        """
        self.step.assign(step)
        try:
            return self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as problem:
            raise UserError(
                f"the checkpoint of step {step} can't be written to {self._manager.directory} "
                f"({str(problem).splitlines()[0]}): free space or mend the permissions, then "
                f"continue with --resume=must; the last good one is {self.latest}."
            ) from None

    def restore(self) -> int:
        """Restore the newest checkpoint.

        Returns:
            Its step; 0 if there is none.

        Raises:
            UserError: It is damaged or does not fit.
        """
        if self.latest is None:
            return 0
        try:
            self._checkpoint.restore(self.latest).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, LookupError) as problem:
            raise UserError(
                f"checkpoint {self.latest} is damaged or of another network "
                f"({str(problem).splitlines()[0][:200]}): delete its files to continue from the "
                "one before it."
            ) from None
        return int(self.step)
