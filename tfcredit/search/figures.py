"""Optuna's figures of a study, made readable on light and on dark pages."""

import warnings
from collections.abc import Callable

import optuna
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from optuna.visualization import matplotlib as plots

from tfcredit.analysis.plots import GREY

_VALUE = "test top-1"


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter decides whether a trial is among the best tenth (PED-ANOVA).

    Args:
        study: With two trials or more that have a value.

    Returns:
        Name -> share of 1, the largest first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials Optuna warns that all are equal
        return optuna.importance.get_param_importances(study)


def draw(study: optuna.Study) -> dict[str, Figure]:
    """All figures of a study.

    Args:
        study: With two trials or more that have a value.

    Returns:
        Name -> figure: the values in the order of trials, over each parameter, as lines through
        all parameters, and the importances.
    """
    drawing: dict[str, Callable] = {
        "history": plots.plot_optimization_history,
        "slice": plots.plot_slice,
        "parallel": plots.plot_parallel_coordinate,
        "importance": plots.plot_param_importances,
    }
    figures = {}
    with warnings.catch_warnings(), pyplot.rc_context():  # they set a style for all
        warnings.simplefilter("ignore")  # Optuna calls these figures experimental
        pyplot.switch_backend("agg")
        for name, plot in drawing.items():
            axes = plot(study, target_name=_VALUE)
            first = axes if isinstance(axes, Axes) else axes.flat[0]
            figures[name] = _recoloured(first.figure)
    return figures


def _recoloured(figure: Figure) -> Figure:
    """Without background, axes and words in mid-grey, as in `tfcredit.analysis.plots`."""
    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
        axes.tick_params(which="both", colors=GREY)
        for spine in axes.spines.values():
            spine.set_color(GREY)
    for text in figure.findobj(Text):
        text.set_color(GREY)
    pyplot.close(figure)
    return figure
