"""A word where nothing is learned: steps that float16's loss scale skips one after the other."""

import keras

from tfcredit import checks
from tfcredit.callbacks.steps import steps_taken


class SkippedSteps(keras.callbacks.Callback):
    """Says when the loss scale has skipped many steps one after the other.

    Under `mixed_float16` Keras skips a step whose gradients are not finite and halves the loss
    scale; some first steps of a training go that way. Where gradients are not finite at any scale,
    all steps do, and Keras says nothing. `tfcredit train` tells of skipped steps at the end of each
    epoch, without this callback.

    Args:
        patience: Number of steps, one after the other, after which a line is printed; then after
            twice as many, and so on. Default 20, after which the scale is a millionth.

    Raises:
        UserError: `patience` is no number of steps.

    Example:
        >>> callback = SkippedSteps(patience=50)
    """

    def __init__(self, patience: int = 20):
        super().__init__()
        self.patience = checks.integer("patience", patience, at_least=1)

    def on_train_begin(self, logs=None):
        """See Keras."""
        self._skipped, self._limit = 0, self.patience
        self._taken = self._first = None

    def on_train_batch_begin(self, batch, logs=None):
        """See Keras."""
        self._first = batch
        if self._taken is None and self._scales:
            self._taken = steps_taken(self.model)

    def on_train_batch_end(self, batch, logs=None):
        """See Keras."""
        if not self._scales:
            return
        taken = steps_taken(self.model)
        if taken != self._taken:
            self._taken, self._skipped, self._limit = taken, 0, self.patience
            return
        self._skipped += batch - self._first + 1
        if self._skipped < self._limit:
            return
        self._limit = 2 * self._skipped
        scale = float(keras.ops.convert_to_numpy(self.model.optimizer.dynamic_scale))
        print(
            f"The last {self._skipped} steps were skipped, so that nothing was learned in them: "
            f"gradients are not finite in float16, even at a loss scale of {scale:.1g}. Scale the "
            "images to 0..1, lower the learning rates (a feedback kernel beyond 65,504 carries no "
            "error), or train in mixed_bfloat16.",
            flush=True,
        )

    @property
    def _scales(self) -> bool:
        return isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)
