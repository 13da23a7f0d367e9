"""What callbacks share: steps of training, the writer of its series, and their names."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

import keras
import tensorflow as tf

from tfcredit.files import place

EVENTS = ".tfcredit.v2"
"""How names of our event files end. Those of a user's own writers end in `.v2` alone."""
_OF_ALL = ("mean", "heat_map")


def steps_taken(model: keras.Model) -> int:
    """Optimizer steps of a compiled model."""
    # Not int() of the variable, which a mirrored one refuses (Keras 3.15).
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def event_writer(log_dir: str | os.PathLike | None) -> tf.summary.SummaryWriter | None:
    """Make the writer of TensorBoard's event files in a folder, in whose path `~` is the home.

    Args:
        log_dir: The folder, local or an address such as `gs://...`; `None` for none.

    Returns:
        The writer; `None` without a folder.

    Raises:
        UserError: The folder can't be reached.
    """
    if log_dir is None:
        return None
    folder = os.fspath(log_dir)
    folder = folder if "://" in folder else str(place(folder))
    return tf.summary.create_file_writer(folder, filename_suffix=EVENTS)


def series(name: str, of_layer: Mapping[str, float]) -> dict[str, float]:
    """TensorBoard's scalars of one measure.

    Args:
        name: The measure.
        of_layer: The path of a layer -> its value.

    Returns:
        `NAME/LAYER` -> value; and `NAME/LAST` -> mean, of layers in several models or blocks whose
        paths end in the same name, such as `query`, if no layer has this path.
    """
    scalars, alike = {}, defaultdict(list)
    for layer, value in of_layer.items():
        # `mean` and `heat_map` are the tags of all layers together.
        scalars[f"{name}/{layer}" + ("_layer" if layer in _OF_ALL else "")] = value
        if "/" in layer:
            alike[layer.rpartition("/")[2]].append(value)
    for last, values in alike.items():
        if len(values) > 1 and last not in of_layer and last not in _OF_ALL:
            scalars[f"{name}/{last}"] = mean(values)
    return scalars


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are defined, NaN if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
