"""Checkpoints of all state of a training."""

import pathlib
import tempfile
from collections.abc import Sequence

import tensorflow as tf

from tfcredit.errors import UserError


class Checkpoints:
    """Saves and restores an explicit list of variables, and the step.

    An explicit list, since `tf.train.Checkpoint` on a Keras model or optimizer leaves out what
    Keras does not track as TensorFlow does (seed states, inner optimizers of `MultiOptimizer`)
    and says nothing. A checkpoint is there whole or not at all: TensorFlow names it in the file
    `checkpoint` after it has been written.

    Args:
        folder: Where the checkpoints lie.
        variables: All state, in an order that does not change.
        keep: Number of checkpoints kept.
        writes: True if this process writes them. With several workers all must call `save`, as
            sums over replicas are exchanged then, but only the chief's files count; the others
            write to a folder that is deleted.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        variables: Sequence[tf.Variable],
        keep: int = 3,
        writes: bool = True,
    ):
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        state = {f"variable_{i}": variable for i, variable in enumerate(variables)}
        self._checkpoint = tf.train.Checkpoint(step=self._step, **state)
        self.folder = folder
        self._throw_away = None if writes else tempfile.TemporaryDirectory()
        target = folder if writes else pathlib.Path(self._throw_away.name)
        self._manager = self._managed(target, keep)
        self._best = self._managed(target / "best", 1)

    def _managed(self, folder: pathlib.Path, keep: int) -> tf.train.CheckpointManager:
        return tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=keep, step_counter=self._step
        )

    @property
    def latest(self) -> str | None:
        """The newest checkpoint, or `None`."""
        return tf.train.latest_checkpoint(str(self.folder))

    def save(self, step: int) -> str:
        """Write a checkpoint; a failure leaves the earlier ones as they were.

        Args:
            step: The number of optimizer steps done.

        Returns:
            Its prefix.

        Raises:
            UserError: The folder can't be written, or the disk is full.
        """
        self._step.assign(step)
        return self._write(self._manager, step)

    def save_best(self, step: int) -> None:
        """Write this state to the folder `best`, in place of the one that is there."""
        self._write(self._best, step)

    def _write(self, manager: tf.train.CheckpointManager, step: int) -> str:
        try:
            return manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as problem:
            if isinstance(problem, tf.errors.UnavailableError | tf.errors.DeadlineExceededError):
                raise  # a worker was lost
            raise UserError(
                f"the checkpoint of step {step} can't be written to {manager.directory} "
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
        latest = self.latest
        if latest is None:
            return 0
        try:
            self._checkpoint.restore(latest).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, LookupError) as problem:
            raise UserError(
                f"checkpoint {latest} is damaged or of another network "
                f"({str(problem).splitlines()[0][:200]}): delete its files to continue from the "
                "one before it."
            ) from None
        return int(self._step)
