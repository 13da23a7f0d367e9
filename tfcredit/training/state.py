"""Names of all variables of a training, the same in every process."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

NUMBERED = re.compile(r"_\d+(?=/|$)")
"""What Keras adds to the names of optimizers and seeds, whose number depends on the process."""
AVERAGE = "average"
"""The owner, in a checkpoint's names, of the moving averages of a network's weights."""


def named(owners: Mapping[str, Any]) -> dict[str, tf.Variable]:
    """Name the variables of networks, optimizers and metrics.

    Args:
        owners: Name -> Keras object with `variables`.

    Returns:
        `OWNER/PATH` -> variable, in the objects' order. A path that occurs again gets a number. A
        variable of which each replica keeps its own part is one per replica, `NAME@REPLICA`, so
        that sums go on in the order in which they were begun; over several machines it is their
        sum.
    """
    found: dict[str, tf.Variable] = {}
    for owner, thing in owners.items():
        for name, variable in variables_of(owner, thing).items():
            found |= _parts(name, variable.value)
    return found


def variables_of(owner: str, thing: Any) -> dict[str, keras.Variable]:
    """Name the variables of a network, optimizer or metric as `named` does.

    Args:
        owner: The first part of the names.
        thing: A Keras object with `variables`.

    Returns:
        `OWNER/PATH` -> variable, in the object's order.
    """
    found: dict[str, keras.Variable] = {}
    for variable in thing.variables:
        path = variable.path
        if isinstance(thing, keras.optimizers.Optimizer) or path.startswith("seed_generator"):
            path = NUMBERED.sub("", path, count=1)
        found[_unused(f"{owner}/{path}", found)] = variable
    return found


def _unused(name: str, found: Iterable[str]) -> str:
    numbered, number = name, 1
    while numbered in found:
        number += 1
        numbered = f"{name}#{number}"
    return numbered


def _parts(name: str, variable: tf.Variable) -> dict[str, tf.Variable]:
    parts = getattr(variable, "values", ())
    own = getattr(variable, "synchronization", None) == tf.VariableSynchronization.ON_READ
    if not own or not parts or len(parts) < variable.distribute_strategy.num_replicas_in_sync:
        return {name: variable}
    return {f"{name}@{i}": part for i, part in enumerate(parts)}
