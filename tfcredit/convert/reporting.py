"""The report of a conversion: layers with feedback kernels, and layers without."""

import math
import re
from collections.abc import Iterable, Sequence

import keras

from tfcredit.analysis.places import Place
from tfcredit.convert.places import with_kernels
from tfcredit.convert.rebuild import forward_weights
from tfcredit.rules.registry import spelled


def report(model: keras.Model) -> list[dict]:
    """One record for each layer with a kernel.

    Args:
        model: A built model.

    Returns:
        Records of `layer` (its path), `kind` (its class), `rule` (the name of its rule, or
        `"backprop"`; of a layer with several rules all names but that), `spelled` (its rules as
        `--rule` takes them, with the arguments that differ from their defaults), `note` (why it
        can't get a feedback kernel, else empty) and `parameters` (the number of its forward
        weights).
    """
    records = []
    for place in with_kernels(model):
        records.append(
            {
                "layer": place.path,
                "kind": type(place.layer).__name__,
                "rule": _joined(rule.name for rule in place.rules),
                "spelled": _joined(spelled(rule) for rule in place.rules),
                "note": "" if place.rules else place.obstacle or "",
                "parameters": sum(math.prod(v.shape) for v in _weights(place)),
            }
        )
    return records


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "backprop"


def _weights(place: Place) -> list[keras.Variable]:
    """A layer's forward weights, those of the layers in it only if they have no place of theirs."""
    layer = place.layer
    if place.has_twin or not layer._layers:
        return forward_weights(layer)
    return layer._trainable_variables + layer._non_trainable_variables


def table(model: keras.Model) -> str:
    """`report` as text in columns.

    Args:
        model: A built model.

    Returns:
        A line for each layer with a kernel, below a line of titles. Rules have their arguments, as
        far as they differ from the defaults, with four digits.
    """
    titles = {"layer": "layer", "kind": "kind", "spelled": "rule"}
    titles |= {"parameters": "parameters", "note": "note"}
    records = [each | {"spelled": _short(each["spelled"])} for each in report(model)]
    rows = [[str(record[key]) for key in titles] for record in records]
    return columns([list(titles.values()), *rows])


def _short(text: str) -> str:
    """A text whose numbers have four digits: a rule's may follow from the network's depth."""
    return re.sub(r"\d+\.\d{4,}", lambda number: f"{float(number[0]):.4g}", text)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines whose cells begin below each other.

    Args:
        rows: Equally many cells in each.

    Returns:
        A line for each row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
