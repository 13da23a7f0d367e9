"""The callback that writes alignment and R."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from tfcredit.analysis import BatchMeasure, alignment, feedback_layers
from tfcredit.analysis.alignment import has_feedback_kernel, labels
from tfcredit.callbacks.steps import event_writer, mean, series, steps_taken
from tfcredit.rules import AlignmentRule


class AlignmentMonitor(keras.callbacks.Callback):
    """Writes alignment and R of every layer to TensorBoard at the end of each epoch.

    Scalars: `angle/LAYER` (between W and B, degrees), `norm_ratio/LAYER` (|B| / |W|),
    `angle/mean`, and, with a probe batch, `R/LAYER` and `PRIMITIVE/LAYER` (without coefficients)
    in evaluation mode, summed over the calls of a layer. LAYER is its path, as
    `tfcredit.convert.report` has it. Works under plain `model.fit`.

    Args:
        log_dir: Folder of the event files, local or `gs://...`.
        probe: A batch of inputs `[n, ...]` as the model takes them, on which R is measured, or
            `None`.
        histograms: True to write histograms of both kernels.
        angles: True to write angles and norm ratios; not where a `MeasureMonitor` does, since
            TensorBoard would join the two series to one that runs back and forth.
        start: True to measure the start of the training too; not where this goes on with a
            training whose points are in `log_dir` already.
        steps: Tells how many steps of a model were taken. Default: the count of its optimizer,
            without those that a loss scale skipped.
    """

    def __init__(
        self,
        log_dir: str,
        probe: Any = None,
        histograms: bool = False,
        angles: bool = True,
        start: bool = True,
        steps: Callable[[keras.Model], int] = steps_taken,
    ):
        super().__init__()
        self._steps = steps
        self._start = start
        self._angles = angles
        self._writer = event_writer(log_dir)
        self._regularisation = None if probe is None else _Regularisation(probe)
        self._histograms = histograms

    def on_train_begin(self, logs=None):
        """Measure the start."""
        if self._start:
            self._record(self._steps(self.model))

    def on_epoch_end(self, epoch, logs=None):
        """Measure and write."""
        self._record(self._steps(self.model))

    def _record(self, step: int):
        layers = feedback_layers(self.model)
        if not layers:
            return
        with self._writer.as_default(step):
            if self._angles:
                records = alignment(self.model)
                self._write(records, ("angle", "norm_ratio"))
                tf.summary.scalar("angle/mean", mean(record["angle"] for record in records))
            if self._regularisation is not None:
                records = self._regularisation(self.model)
                self._write(records, {name for each in records for name in each} - {"layer"})
            if self._histograms:
                self._write_histograms(layers)
        self._writer.flush()

    def _write(self, records: list[dict], names: Iterable[str]):
        for name in sorted(names):
            of_layer = {each["layer"]: each[name] for each in records if name in each}
            for tag, value in series(name, of_layer).items():
                tf.summary.scalar(tag, value)

    def _write_histograms(self, layers: list):
        """Of both kernels; those of layers that `series` joins are joined too."""
        label = labels(self.model)
        paths = {label[id(layer)]["layer"]: layer for layer in layers}
        for letter, kernel in (("W", "kernel"), ("B", "feedback_product")):
            joined = defaultdict(list)
            for path, layer in paths.items():
                values = tf.reshape(tf.convert_to_tensor(getattr(layer, kernel)), [-1])
                joined[path].append(values)
                last = path.rpartition("/")[2]
                if last not in paths:
                    joined[last].append(values)
            for name, parts in joined.items():
                if name in paths or len(parts) > 1:
                    tf.summary.histogram(f"{letter}/{name}", tf.concat(parts, 0))


class _Regularisation(BatchMeasure):
    """R and each primitive's value of the layers that have them."""

    def __init__(self, x: Any):
        super().__init__(x, training=False)

    def _graph(self, loss, calls):
        return [self._values(call.layer, call.x) for call in calls]

    def _values(self, layer: keras.Layer, x: tf.Tensor) -> dict[str, tf.Tensor]:
        rule = getattr(layer, "rule", None)
        if not has_feedback_kernel(layer) or not isinstance(rule, AlignmentRule):
            return {}
        state = layer.layer_state(tf.cast(x, layer.compute_dtype))
        r = rule.loss(state)
        return ({} if r is None else {"R": r}) | rule.primitive_values(state)

    def _records(self, label, values):
        return [{"layer": label["layer"]} | {name: float(sum(v)) for name, v in values.items()}]
