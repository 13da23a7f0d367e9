"""Optimizers by name, as the command line takes them, and from configs."""

import copy
import math
from typing import Any

import keras

from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.optimizers import fused
from tfcredit.optimizers.lars import LARS
from tfcredit.optimizers.radam import RAdam
from tfcredit.optimizers.synchronous import SumClipping

# Bases and wrappers: none of them is an update rule that could stand alone.
_NO_RULE = {"optimizer", "lossscaleoptimizer", "multioptimizer"}

LearningRate = float | keras.optimizers.schedules.LearningRateSchedule


def names() -> list[str]:
    """All names that `get` takes, sorted: "lars", "momentum", "radam" and Keras', in lower case."""
    return sorted({*_KINDS, "momentum"})


def _twin(kind: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """A subclass of Keras' optimizer that clips the sum over replicas."""
    body = {"__doc__": kind.__doc__, "__module__": __name__}
    return keras.saving.register_keras_serializable("tfcredit")(
        type(kind.__name__, (SumClipping, kind), body)
    )


# Made at once, so that files that name them can be loaded.
_KINDS = {
    name.lower(): _twin(value)
    for name, value in vars(keras.optimizers).items()
    if isinstance(value, type)
    and issubclass(value, keras.optimizers.Optimizer)
    and name.lower() not in {"sgd", "adam", *_NO_RULE}
} | {"sgd": fused.SGD, "adam": fused.Adam, "lars": LARS, "radam": RAdam}
"""Name in lower case -> class: a twin of Keras', one whose updates are fused, or one of ours."""


def get(
    name: str,
    learning_rate: LearningRate,
    momentum: float = 0.9,
    nesterov: bool = True,
    **options: Any,
) -> keras.optimizers.Optimizer:
    """Make an optimizer from its name.

    Args:
        name: "sgd" (plain), "momentum" (SGD with momentum, the paper's choice), "adam", "rmsprop",
            "adagrad" or any other of `names()`, in any case.
        learning_rate: A number >= 0 or a Keras schedule.
        momentum: For "momentum" only.
        nesterov: For "momentum" only: True for Nesterov's momentum.
        **options: Other arguments of the Keras class of that name, such as `weight_decay`.

    Returns:
        A new optimizer of a subclass of Keras' class, which clips the sum of the gradients of
        several replicas; SGD and Adam are `tfcredit.optimizers.fused`'s, Keras' with fewer ops.

    Raises:
        UserError: If the name is unknown, the rate is no rate or the class refuses an option.

    Example:
        >>> get("momentum", 0.1).nesterov
        True
    """
    key = name.lower() if isinstance(name, str) else name
    if key not in names():
        raise UserError(_unknown(name))
    if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = _rate(learning_rate)
    if key == "momentum":
        options = {"momentum": momentum, "nesterov": nesterov, **options}
    kind = _KINDS["sgd" if key == "momentum" else key]
    try:
        return kind(learning_rate=learning_rate, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"The optimizer {name!r} refuses {options}: {error}") from error


def resolve(
    identifier: Any, role: str, custom_objects: dict[str, Any] | None = None
) -> keras.optimizers.Optimizer:
    """The optimizer that a wrapper was given as instance, config or name.

    Args:
        identifier: A Keras optimizer, the config of one as `keras.optimizers.serialize` writes it,
            or a name, which makes an optimizer with Keras' defaults.
        role: The argument's name, for the message.
        custom_objects: Classes by name, for configs.

    Returns:
        The optimizer; an instance is returned as it is.

    Raises:
        UserError: If it is none of these, or an optimizer that cannot be wrapped.
    """
    if isinstance(identifier, str):
        if identifier.lower() not in names():
            raise UserError(_unknown(identifier))
        if identifier.lower() == "momentum":
            return fused.SGD(momentum=0.9, nesterov=True)
        return _KINDS[identifier.lower()]()
    if isinstance(identifier, dict):
        try:  # On a copy, as Keras writes into the config that it reads.
            identifier = keras.optimizers.deserialize(copy.deepcopy(identifier), custom_objects)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{role} is a config that Keras refuses: {error}") from error
    if not isinstance(identifier, keras.optimizers.Optimizer):
        raise UserError(
            f"{role} is {identifier!r}; give a Keras optimizer, its config or one of the names "
            f"{', '.join(names())}."
        )
    if isinstance(identifier, keras.optimizers.LossScaleOptimizer):
        raise UserError(
            f"{role} is a LossScaleOptimizer; put it around the outermost optimizer, as "
            "compile() does by itself under the mixed_float16 policy."
        )
    if isinstance(identifier, keras.optimizers.MultiOptimizer):
        raise UserError(
            f"{role} is a MultiOptimizer, which has no learning rate and whose state "
            "tf.train.Checkpoint omits; nest a PartitionedOptimizer instead."
        )
    if identifier.loss_scale_factor is not None:
        raise UserError(
            f"{role} has loss_scale_factor={identifier.loss_scale_factor}; give it to the "
            "outermost optimizer, the only one that sees the loss."
        )
    return identifier


def _unknown(name: Any) -> str:
    hint = did_you_mean(str(name).lower(), names())
    return f"Unknown optimizer {name!r}, known are {', '.join(names())}{hint}"


def _rate(value: Any) -> float:
    """A learning rate as the float that Keras insists on."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise UserError(f"learning_rate is {value!r}; give a number >= 0 or a Keras schedule.")
    return rate
