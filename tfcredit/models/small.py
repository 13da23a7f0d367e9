"""Small networks without batch norm, where the rules differ most: fully connected and conv."""

from collections.abc import Sequence
from typing import Any

import keras

from tfcredit import layers
from tfcredit.errors import UserError
from tfcredit.models.making import LayerMaker, half_l2

Tensor = Any
Activation = Any

_FILTERS = (32, 64, 64)
_STRIDES = (1, 2, 2)
CONV_TOTAL_STRIDE = 4


def conv(
    inputs: Tensor,
    classes: int,
    make: LayerMaker,
    l2: float,
    *,
    activation: Activation = "relu",
) -> Tensor:
    """Builds three 3x3 convolutions, the second and third with stride 2, and a dense layer.

    Args:
        inputs: Images `[batch, height, width, channels]`.
        classes: Number of logits.
        make: Makes the layers that carry a feedback kernel.
        l2: Weight decay of the forward kernels.
        activation: Nonlinearity of the convolutions, as Keras takes it.

    Returns:
        Logits `[batch, classes]`.

    Raises:
        UserError: If the activation is unknown.
    """
    _check_activation(activation)
    x = inputs
    for index, (filters, strides) in enumerate(zip(_FILTERS, _STRIDES, strict=True)):
        x = make(
            layers.Conv2D,
            filters,
            3,
            strides=strides,
            padding="same",
            activation=activation,
            name=f"conv{index}",
            kernel_initializer=keras.initializers.GlorotUniform,
            kernel_regularizer=half_l2(l2),
        )(x)
    return _dense(make, keras.layers.Flatten(name="flatten")(x), classes, l2, name="dense")


def fc(
    inputs: Tensor,
    classes: int,
    make: LayerMaker,
    l2: float,
    *,
    widths: int | Sequence[int] = 256,
    depth: int | None = None,
    activation: Activation = "relu",
) -> Tensor:
    """Builds a fully connected network on the flattened image.

    Args:
        inputs: Images `[batch, height, width, channels]`, or arrays of any other rank.
        classes: Number of logits.
        make: Makes the layers that carry a feedback kernel.
        l2: Weight decay of the forward kernels.
        widths: Units of each hidden layer, or of all of them if it is one number.
        depth: Number of hidden layers, 3 by default. It goes with a single width.
        activation: Nonlinearity of the hidden layers, as Keras takes it.

    Returns:
        Logits `[batch, classes]`.

    Raises:
        UserError: If widths and depth do not make a network, or the activation is unknown.
    """
    _check_activation(activation)
    x = keras.layers.Flatten(name="flatten")(inputs)
    for index, units in enumerate(_hidden_widths(widths, depth)):
        x = _dense(make, x, units, l2, name=f"dense{index}", activation=activation)
    return _dense(make, x, classes, l2, name="dense_output")


def _dense(
    make: LayerMaker,
    x: Tensor,
    units: int,
    l2: float,
    name: str,
    activation: Activation = None,
) -> Tensor:
    layer = make(
        layers.Dense,
        units,
        activation=activation,
        name=name,
        kernel_initializer=keras.initializers.GlorotUniform,
        kernel_regularizer=half_l2(l2),
    )
    return layer(x)


def _hidden_widths(widths: int | Sequence[int], depth: int | None) -> tuple[int, ...]:
    """The units of each hidden layer, whichever way the user stated them."""
    single = isinstance(widths, int)
    if not single and depth is not None and depth != len(widths):
        raise UserError(
            f"widths={widths!r} states {len(widths)} hidden layers but depth={depth!r}; "
            "leave depth out or give a single width."
        )
    depth = (3 if single else len(widths)) if depth is None else depth
    if not isinstance(depth, int) or depth < 0:
        raise UserError(f"depth={depth!r} is no number of hidden layers; use 0, 1, 2, ...")
    units = (widths,) * depth if single else tuple(widths)
    if any(not isinstance(count, int) or count < 1 for count in units):
        raise UserError(f"widths={widths!r} has to hold positive whole numbers, such as 256.")
    return units


def _check_activation(activation: Activation) -> None:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise UserError(
            f"Unknown activation {activation!r}; use a name that Keras knows, such as "
            "'relu', 'tanh' or 'sigmoid', or a function."
        ) from error
