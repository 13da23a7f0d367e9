"""Residual networks: post-activation ("v1"), pre-activation ("v2"), and for small images.

Depths, paddings, initializers and the names of layers follow the networks of the paper
(Kunin et al. 2020, arXiv:2003.01513), which are the TPU reference models; a layer is named like
the paper's variable scope, with `_` in place of `/`.

Sources: He et al. 2015 (arXiv:1512.03385) for v1 and the CIFAR networks, He et al. 2016
(arXiv:1603.05027) for v2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras

from tfcredit import layers
from tfcredit.models.blocks import (
    Convolution,
    Parts,
    Tensor,
    block_v1,
    block_v2,
    convolve,
    normalize,
)
from tfcredit.models.making import LayerMaker, half_l2


@dataclass(frozen=True)
class Architecture:
    """Description of a residual network.

    Attributes:
        block: `basic_block` or `bottleneck_block`.
        blocks: Number of blocks of each group; each group doubles the channels of the one before.
        preactivation: True for v2.
        small_images: True for a 3x3 stem without stride, False for the 7x7 stem and max-pooling.
        width: Channels of the first group.
    """

    block: Callable[[int, int], list[Convolution]]
    blocks: tuple[int, ...]
    preactivation: bool = False
    small_images: bool = False
    width: int = 64

    @property
    def total_stride(self) -> int:
        """By how much the last feature map is smaller than the image."""
        return 2 ** (len(self.blocks) - 1) * (1 if self.small_images else 4)


def resnet(
    inputs: Tensor,
    classes: int,
    make: LayerMaker,
    l2: float,
    architecture: Architecture,
    *,
    sync_batch_norm: bool = False,
) -> Tensor:
    """Builds a residual network.

    Args:
        inputs: Images `[batch, height, width, channels]`.
        classes: Number of logits.
        make: Makes the layers that carry a feedback kernel.
        l2: Weight decay of the forward kernels and of the dense bias.
        architecture: The residual network's.
        sync_batch_norm: True for batch norm with statistics over all replicas.

    Returns:
        Logits `[batch, classes]`.
    """
    v2 = architecture.preactivation
    parts = Parts(
        conv=partial(convolve, make, half_l2(l2)),
        norm=partial(normalize, momentum=0.997 if v2 else 0.9, synchronized=sync_batch_norm),
        zero_gamma=not architecture.small_images,
    )
    x = _stem(parts, inputs, architecture)
    block = block_v2 if v2 else block_v1
    # The paper's code calls the groups of its two versions by different words.
    scope = "block_layer" if v2 else "block_group"
    for group, count in enumerate(architecture.blocks):
        filters = architecture.width * 2**group
        for index in range(count):
            convolutions = architecture.block(filters, 2 if group and not index else 1)
            name = f"{scope}{group + 1}_{index}"
            x = block(parts, x, convolutions, project=index == 0, name=name)
    if v2:
        x = parts.norm(x, name="bnl4")
    x = keras.layers.GlobalAveragePooling2D(name="final_avg_pool")(x)
    # For small images the paper gives no network. Its dense std of 0.01 and its gammas of 0 start
    # so gently that a ResNet-8 with backprop is at 0.70 after 3 epochs of the embedded set, not at
    # 0.83 (SGD with momentum, rate 0.02).
    initializer = (
        keras.initializers.GlorotUniform
        if v2 or architecture.small_images
        else partial(keras.initializers.RandomNormal, stddev=0.01)
    )
    dense = make(
        layers.Dense,
        classes,
        name="dense",
        kernel_initializer=initializer,
        kernel_regularizer=half_l2(l2),
        bias_regularizer=half_l2(l2),
    )
    return dense(x)


def _stem(parts: Parts, x: Tensor, architecture: Architecture) -> Tensor:
    """The first convolution, normalised in v1, and the max-pooling for large images."""
    kernel_size, strides = (3, 1) if architecture.small_images else (7, 2)
    stem, relu = (architecture.width, kernel_size, strides), not architecture.preactivation
    x = parts.conv(x, stem, name="conv0", relu=relu)
    if relu:
        x = parts.norm(x, name="conv0")
    if not architecture.small_images:
        x = keras.layers.MaxPooling2D(3, 2, padding="same", name="initial_max_pool")(x)
    return x
