"""The callback that writes alignment and R."""

from typing import Any

import keras
import tensorflow as tf

from tfcredit.analysis import alignment, feedback_layers
from tfcredit.callbacks.steps import steps_taken
from tfcredit.rules import AlignmentRule


class AlignmentMonitor(keras.callbacks.Callback):
    """Writes alignment and R of every layer to TensorBoard at the end of each epoch.

    Scalars: `angle/LAYER` (between W and B, degrees), `norm_ratio/LAYER` (|B| / |W|),
    `angle/mean`, and, with a probe batch, `R/LAYER` and `PRIMITIVE/LAYER` (without coefficients)
    in evaluation mode. Works under plain `model.fit`.

    Args:
        log_dir: Folder of the event files.
        probe: A batch of inputs `[n, ...]` on which R is measured, or `None`.
        histograms: True to write histograms of both kernels.
        angles: True to write angles and norm ratios; not where a `MeasureMonitor` does, since
            TensorBoard would join the two series to one that runs back and forth.
        start: True to measure the start of the training too; not where this goes on with a
            training whose points are in `log_dir` already.
    """

    def __init__(
        self,
        log_dir: str,
        probe: Any = None,
        histograms: bool = False,
        angles: bool = True,
        start: bool = True,
    ):
        super().__init__()
        self._start = start
        self._angles = angles
        self._writer = tf.summary.create_file_writer(str(log_dir))
        self._probe = probe
        self._histograms = histograms
        self._regularisation = None

    def on_train_begin(self, logs=None):
        """Measure the start."""
        if self._start:
            self._record(steps_taken(self.model))

    def on_epoch_end(self, epoch, logs=None):
        """Measure and write."""
        self._record(steps_taken(self.model))

    def _record(self, step: int):
        if not feedback_layers(self.model):
            return
        with self._writer.as_default(step):
            if self._angles:
                records = alignment(self.model)
                for record in records:
                    tf.summary.scalar(f"angle/{record['layer']}", record["angle"])
                    tf.summary.scalar(f"norm_ratio/{record['layer']}", record["norm_ratio"])
                mean = sum(record["angle"] for record in records) / len(records)
                tf.summary.scalar("angle/mean", mean)
            for name, value in self._regularisation_values().items():
                tf.summary.scalar(name, value)
            if self._histograms:
                for layer in feedback_layers(self.model):
                    tf.summary.histogram(f"W/{layer.name}", tf.convert_to_tensor(layer.kernel))
                    feedback = tf.convert_to_tensor(layer.feedback_kernel)
                    tf.summary.histogram(f"B/{layer.name}", feedback)
        self._writer.flush()

    def _regularisation_values(self) -> dict:
        """R and each primitive's value, per layer, on the probe batch."""
        if self._probe is None:
            return {}
        if self._regularisation is None:
            self._regularisation = _regularisation_function(self.model)
        return self._regularisation(self._probe)


def _regularisation_function(model: keras.Model):
    layers = [layer for layer in feedback_layers(model) if isinstance(layer.rule, AlignmentRule)]
    if not layers:
        return lambda probe: {}
    inputs = keras.Model(model.inputs, [layer.input for layer in layers])

    @tf.function
    def values(probe):
        result = {}
        for layer, x in zip(layers, tf.nest.flatten(inputs(probe, training=False)), strict=True):
            state = layer.layer_state(tf.cast(x, layer.compute_dtype))
            loss = layer.rule.loss(state)
            if loss is not None:
                result[f"R/{layer.name}"] = loss
            for name, value in layer.rule.primitive_values(state).items():
                result[f"{name}/{layer.name}"] = value
        return result

    return values
