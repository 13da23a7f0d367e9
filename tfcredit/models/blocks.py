"""The blocks of residual networks, made of convolutions and batch norms that are handed to them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from tfcredit import layers
from tfcredit.models.making import LayerMaker

Tensor = Any
# One convolution of a block: output channels, kernel size, stride.
Convolution = tuple[int, int, int]


def basic_block(filters: int, strides: int) -> list[Convolution]:
    """The convolutions of a basic block: two 3x3, the first one strided."""
    return [(filters, 3, strides), (filters, 3, 1)]


def bottleneck_block(filters: int, strides: int) -> list[Convolution]:
    """The convolutions of a bottleneck: 1x1, strided 3x3, 1x1 to four times the channels."""
    return [(filters, 1, 1), (filters, 3, strides), (4 * filters, 1, 1)]


@dataclass(frozen=True)
class Parts:
    """The layers a block is made of, with everything set that all blocks share."""

    conv: Callable[..., Tensor]
    norm: Callable[..., Tensor]
    zero_gamma: bool


def block_v1(
    parts: Parts, x: Tensor, convolutions: list[Convolution], project: bool, name: str
) -> Tensor:
    """Convolution, batch norm, relu; the last relu comes after the sum.

    With `parts.zero_gamma` the last batch norm starts with gamma 0: the block begins as its
    shortcut.
    """
    shortcut = x
    if project:
        shortcut = parts.conv(x, _projection(convolutions), name=f"{name}_conv0")
        shortcut = parts.norm(shortcut, name=f"{name}_conv0", relu=False)
    for number, convolution in enumerate(convolutions, start=1):
        last = number == len(convolutions)
        zero = last and parts.zero_gamma
        x = parts.conv(x, convolution, name=f"{name}_conv{number}", relu=not last)
        x = parts.norm(x, name=f"{name}_conv{number}", relu=not last, zero_gamma=zero)
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def block_v2(
    parts: Parts, x: Tensor, convolutions: list[Convolution], project: bool, name: str
) -> Tensor:
    """Batch norm, relu, convolution; a projection takes the normalised input, too."""
    shortcut = x
    x = parts.norm(x, name=f"{name}_bn0")
    if project:
        shortcut = parts.conv(x, _projection(convolutions), name=f"{name}_conv0")
    for number, convolution in enumerate(convolutions, start=1):
        last = number == len(convolutions)
        x = parts.conv(x, convolution, name=f"{name}_conv{number}", relu=not last)
        if not last:
            x = parts.norm(x, name=f"{name}_conv{number}")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


def _projection(convolutions: list[Convolution]) -> Convolution:
    """The 1x1 convolution from a block's input to the channels and stride of its output."""
    return convolutions[-1][0], 1, max(strides for _, _, strides in convolutions)


def convolve(
    make: LayerMaker,
    regularizer: keras.regularizers.Regularizer | None,
    x: Tensor,
    convolution: Convolution,
    name: str,
    relu: bool = False,
) -> Tensor:
    """A convolution without bias, whose padding depends on its kernel but not on the image.

    With `relu` one follows behind its batch norm, which R may take for the layer's activation.
    """
    filters, kernel_size, strides = convolution
    if strides > 1 and kernel_size > 1:
        # SAME would pad one pixel less before an even image than before an odd one.
        before = (kernel_size - 1) // 2
        padding = (before, kernel_size - 1 - before)
        x = keras.layers.ZeroPadding2D((padding, padding), name=f"{name}_pad")(x)
    layer = make(
        layers.Conv2D,
        filters,
        kernel_size,
        strides=strides,
        padding="valid" if strides > 1 else "same",
        use_bias=False,
        name=name,
        kernel_initializer=partial(
            keras.initializers.VarianceScaling, 1.0, "fan_in", "truncated_normal"
        ),
        kernel_regularizer=regularizer,
        alignment_activation="relu" if relu else None,
    )
    return layer(x)


def normalize(
    x: Tensor,
    name: str,
    momentum: float,
    synchronized: bool,
    relu: bool = True,
    zero_gamma: bool = False,
) -> Tensor:
    """Batch norm of the scope `name`, with a relu unless told otherwise."""
    x = keras.layers.BatchNormalization(
        momentum=momentum,
        epsilon=1e-5,
        gamma_initializer="zeros" if zero_gamma else "ones",
        synchronized=synchronized,
        name=f"{name}_batch_normalization",
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x
