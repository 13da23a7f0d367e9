"""TensorBoard's view of runs: the table of hyperparameters, the charts of scalars."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import get_type_hints

import tensorflow as tf

from tfcredit import models, rules
from tfcredit.callbacks.steps import event_writer
from tfcredit.callbacks.table import tag_of
from tfcredit.training import event_files
from tfcredit.training.flags import of_scope, shown_in
from tfcredit.training.recipe import Recipe
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.step_table import TAG

METRICS = {"test/top1": "top-1", "angle/mean": "mean angle, degrees", "test/loss": "test loss"}
LAYERS = r"/(?!mean$)"
"""After the name of a measure: each layer's, without their mean."""
LAYOUT = {
    "Task": {
        "top-1": ["(test|validation)/top1", "train/top1"],
        "loss": ["(test|validation)/loss", "train/loss"],
        "learning rates": ["run/learning_rate", "run/feedback_learning_rate"],
    },
    "Credit assignment": {
        "mean angle of W and B, degrees": ["angle/mean"],
        "angle of W and B, degrees": [f"angle{LAYERS}"],
        "|B| / |W|": [f"norm_ratio{LAYERS}"],
        "R": [r"R/.*", "train/alignment_loss"],
    },
}
"""Category -> chart -> regular expressions that tags begin with."""
MEASURED = {
    "Errors against backprop": {
        "mean angle of errors, degrees": ["error_angle/mean"],
        "angle of errors, degrees": [f"error_angle{LAYERS}"],
        "mean angle of gradients, degrees": ["gradient_angle/mean"],
        "angle of gradients, degrees": [f"gradient_angle{LAYERS}"],
        "|error| / |backprop's|": [f"error_norm_ratio{LAYERS}"],
    },
}
"""Further charts with `--measures`."""
SCHEDULED = {"Coefficients": {"coefficients of R": ["run/coefficient_"]}}
"""Further charts of a run whose coefficients are scheduled."""


def write_start(folder: pathlib.Path, recipe: Recipe, scheduled: bool = False) -> None:
    """Write what TensorBoard's dashboards "HParams" and "Custom Scalars" need of a run.

    Args:
        folder: Of the event files.
        recipe: The complete recipe; flags that make a run what it is are the hyperparameters.
        scheduled: True if coefficients follow schedules, which have a chart then.
    """
    # They import slowly, and are needed once.
    from tensorboard.plugins.custom_scalar import summary as custom_scalars
    from tensorboard.plugins.hparams import summary as hparams

    charts = LAYOUT | (MEASURED if recipe.measures else {}) | (SCHEDULED if scheduled else {})
    flags = {name: getattr(recipe, name) for name in of_scope(recipe, "run")}
    flags = {name: value for name, value in flags.items() if value is not None}
    summaries = [
        hparams.experiment_pb(_hyperparameters(), _metrics()),
        hparams.session_start_pb(flags),
        custom_scalars.pb(_layout(charts)),
    ]
    writer = event_writer(folder)
    with writer.as_default(0):
        for summary in summaries:
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())
    writer.close()


def purge(
    directory: RunDirectory,
    rows: Sequence[Mapping[str, float]],
    logged: Sequence[Mapping[str, float]],
    step: int,
) -> None:
    """Leave in a run's event files what it does not write again when it goes on from a step.

    The tables say what that is: they get a row after its points have been written.

    Args:
        directory: Of the run.
        rows: The table of epochs up to the step.
        logged: The table of steps within epochs, likewise.
        step: The step; from 0 on, all is written again but the measures of the start.

    Raises:
        UserError: The table of measures can't be read.
        OSError: A file can't be written.
    """
    measures = directory.measured(step)
    measured = {name for record in measures for name in record}
    of_measures = {record["step"] for record in measures}
    of_rows = {(tag_of(name), row["step"]) for row in rows for name in row}
    of_steps = {row["step"] for row in logged}
    closed = {0, *(row["step"] for row in rows)}

    def keep(tag: str, at: int) -> bool:
        kind, _, name = tag.partition("/")
        if not step:  # the start is written again, but for what the table of measures has of it
            return kind in measured and at in of_measures
        if kind in ("train", "test", "validation", "run"):
            return (tag, at) in of_rows
        if kind == TAG:
            return at in of_steps
        if name == "heat_map":
            return at < max(of_measures, default=0)  # the newest is drawn again at the end
        return at in closed or (kind in measured and at in of_measures)

    event_files.purge(directory.tensorboard, keep)


def write_end(folder: pathlib.Path, step: int, results: Mapping[str, float]) -> None:
    """Write a run's final results as scalars: with `--mode=train` nothing else does.

    Args:
        folder: Of the event files.
        step: The last one.
        results: Test results with `top1` and `loss`.
    """
    writer = event_writer(folder)
    with writer.as_default(step):
        for name in ("top1", "loss"):
            tf.summary.scalar(f"test/{name}", results[name])
    writer.close()


def _hyperparameters() -> list:
    """Every flag that makes a run what it is, with type and range, which decide on its filter."""
    from tensorboard.plugins.hparams import api_pb2

    kinds = {str: "STRING", bool: "BOOL", int: "FLOAT64", float: "FLOAT64"}
    hints = get_type_hints(Recipe)
    names = {"rule": rules.names(), "model": models.names()}
    shown, infos = shown_in(Recipe, "tensorboard"), []
    for field in dataclasses.fields(Recipe):
        if field.metadata["scope"] != "run":
            continue
        kind = next(kind for kind in kinds if hints[field.name] in (kind, kind | None))
        info = api_pb2.HParamInfo(name=field.name, type=f"DATA_TYPE_{kinds[kind]}")
        info.differs = field.name in shown  # such columns come first; five, says TensorBoard
        values = (False, True) if kind is bool else field.metadata["choices"]
        if values := names.get(field.name, values):
            info.domain_discrete.extend(values)
        infos.append(info)
    return infos


def _metrics() -> list:
    from tensorboard.plugins.hparams import api_pb2

    return [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title)
        for tag, title in METRICS.items()
    ]


def _layout(categories: Mapping[str, Mapping[str, Sequence[str]]]):
    from tensorboard.plugins.custom_scalar import layout_pb2

    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title=category,
                chart=[
                    layout_pb2.Chart(
                        title=title, multiline=layout_pb2.MultilineChartContent(tag=tags)
                    )
                    for title, tags in charts.items()
                ],
            )
            for category, charts in categories.items()
        ]
    )
