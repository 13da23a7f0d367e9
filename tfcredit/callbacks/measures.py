"""The callback that records measures of credit assignment during training."""

import importlib.util
import io
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfcredit.analysis import ErrorAngles, alignment, feedback_layers
from tfcredit.callbacks.steps import event_writer, mean, series, steps_taken
from tfcredit.errors import UserError
from tfcredit.files import place
from tfcredit.records import read_counted, write_csv

Measure = Callable[[keras.Model], list[dict]]


class MeasureMonitor(keras.callbacks.Callback):
    """Measures at the start, every so many steps and at the end of training, on a fixed batch.

    The steps are the optimizer's, so that a run that was continued is measured where it would have
    been.

    Scalars for TensorBoard: `NAME/LAYER` for each number in the records (`angle/conv0`,
    `error_angle/conv0`, ...) and `NAME/mean` over the layers that have one; those whose reference
    is below its floor (`ErrorAngles`) do not count in means. With matplotlib (the extra `plots`),
    images `NAME/heat_map`, layer x time, of every angle: at the end, and before as
    often as takes less than 1 % of the time. Training itself is left as it would be. Works under
    plain `model.fit`.

    Args:
        x: Inputs of the batch on which errors are measured, `[n, ...]`.
        y: Its labels, as the model's loss takes them; None with `measures` that need none.
        log_dir: Folder of the event files, local or `gs://...`; `None` for none.
        every: Steps between two measurements, or `"epoch"` for the end of each epoch. At 200 the
            default measures cost less than 3 % of the time if the batch is not larger than the
            one of training.
        measures: Functions of the model that give records, such as those of `tfcredit.analysis`.
            Default: `alignment` and `ErrorAngles(x, y)`, which needs a model compiled with one
            loss; for a model without feedback kernels the latter alone.
        table: A CSV file that always holds all records, or `None`. Those of an earlier part of the
            run, up to the step from which it goes on, are kept, in `records` and heat maps too.
        steps: Tells how many steps of a model were taken. Default: the count of its optimizer,
            without those that a loss scale skipped.

    Attributes:
        records: All records so far, each with the `step` that it belongs to in front: flat
            dictionaries, as `pandas.DataFrame` and `tfcredit.analysis.write_csv` take them.

    Raises:
        UserError: `every` is no positive number of steps; `x` or `y` is no batch of arrays; a
            measure can't look at the model; the table that is there can't be read.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        log_dir: str | None = None,
        every: int | Literal["epoch"] = 200,
        measures: Sequence[Measure] | None = None,
        table: str | os.PathLike | None = None,
        steps: Callable[[keras.Model], int] = steps_taken,
    ):
        super().__init__()
        self._steps_taken = steps
        if every != "epoch" and not (isinstance(every, int) and every > 0):
            raise UserError(f"every={every!r} is no interval: give a number of steps or 'epoch'.")
        self.records: list[dict] = []
        self._errors = ErrorAngles(x, y) if measures is None else None
        self._measures = measures
        self._every = every
        self._writer = event_writer(log_dir)
        self._table = None if table is None else place(table)
        self._step = self._first_batch = 0
        self._started = self._seconds_of_drawing = 0.0
        self._drawn = 0

    def on_train_begin(self, logs=None):
        """Measure the start, unless this goes on with what was measured before."""
        self._started, self._seconds_of_drawing = time.monotonic(), 0.0
        self._step = self._steps_taken(self.model)
        if self._table is not None:
            earlier = read_counted(self._table, ("step",), is_repeated=True)
            self.records = [record for record in earlier if record["step"] <= self._step]
        if not self.records:
            self._measure()

    def on_train_batch_begin(self, batch, logs=None):
        """Count the steps; one call may stand for several of them."""
        self._first_batch = batch

    def on_train_batch_end(self, batch, logs=None):
        """Measure if it is time."""
        before = self._step
        self._step += batch - self._first_batch + 1
        if self._every != "epoch" and self._step // self._every > before // self._every:
            self._measure()

    def on_epoch_end(self, epoch, logs=None):
        """Measure if it is time."""
        if self._every == "epoch":
            self._measure()

    def on_train_end(self, logs=None):
        """Measure the end."""
        measured = max((record["step"] for record in self.records), default=-1)
        if measured < self._steps_taken(self.model):
            self._measure()
        if self._writer is not None and self._drawn < len(self.records):
            self._draw()

    def _measure(self):
        step = self._steps_taken(self.model)
        measures = self._measures
        if measures is None:
            both = [alignment, self._errors]
            measures = both if feedback_layers(self.model) else [self._errors]
        found = [{"step": step} | record for measure in measures for record in measure(self.model)]
        self.records += found
        if self._writer is not None:
            with self._writer.as_default(step):
                for name, value in _scalars(found).items():
                    tf.summary.scalar(name, value)
            self._writer.flush()
        if self._table is not None:
            write_csv(self.records, self._table)  # last: it says that all is written
        if self._writer is not None:
            # What the first drawing takes is not known before.
            if (self._seconds_of_drawing or 1.0) < 0.01 * (time.monotonic() - self._started):
                self._draw()

    def _draw(self):
        if importlib.util.find_spec("matplotlib") is None:
            return
        from tfcredit.analysis import plots

        started, self._drawn = time.monotonic(), len(self.records)
        names = {name for record in self.records for name in record if name.endswith("angle")}
        with self._writer.as_default(self.records[-1]["step"]):
            for name in sorted(names):
                png = io.BytesIO()
                figure = plots.heat_map(self.records, name, transparent=False)
                # TensorBoard shows it small: larger words, as sharp.
                figure.set_figwidth(0.75 * figure.get_figwidth())
                figure.savefig(png, format="png", dpi=160)
                tf.summary.image(f"{name}/heat_map", tf.io.decode_png(png.getvalue(), 3)[None])
        self._writer.flush()
        self._seconds_of_drawing += time.monotonic() - started


def _scalars(records: Sequence[dict]) -> dict[str, float]:
    """Tag -> value. Spectra, which have several records per layer, are no scalars."""
    values, trusted = defaultdict(dict), defaultdict(list)
    for record in records:
        for name, value in record.items():
            if isinstance(value, float) and "index" not in record:
                values[name][record["layer"]] = value
                if _has_reference(record, name):
                    trusted[name].append(value)
    scalars = {}
    for name, of_layer in values.items():
        scalars |= series(name, of_layer) | {f"{name}/mean": mean(trusted[name])}
    return scalars


def _has_reference(record: dict, name: str) -> bool:
    """False for what is measured against a reference below its floor."""
    kind, _, measure = name.partition("_")
    return measure == "reference_norm" or not record.get(f"{kind}_below_floor")
