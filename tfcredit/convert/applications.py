"""Weights of the residual networks of `keras.applications` into the paper's."""

import re

import keras
import numpy as np

from tfcredit.convert.rebuild import forward_weights, renew_angles
from tfcredit.errors import UserError

_BLOCK = re.compile(r"conv(\d)_block(\d+)_(?:(\d)_|preact_)(conv|bn)")
_ENDS = {
    "conv1_conv": "conv0",
    "conv1_bn": "conv0_batch_normalization",
    "post_bn": "bnl4_batch_normalization",
    "predictions": "dense",
}


def load_applications_weights(model: keras.Model, source: keras.Model) -> list[dict]:
    """Gives a reference network the forward weights of Keras' network of its depth and version.

    Layers whose shapes differ, such as the last one for another number of classes, are left as they
    are. Keras' convolutions have biases and the paper's have none: where a batch norm follows, it
    takes them up exactly (its moving mean, less the bias); elsewhere they are left out. This is a
    start for training, not the same function: version 1 has its strides in the 3x3 convolutions
    here and in the first 1x1 ones in Keras, and version 2 at other blocks' ends.

    Args:
        model: `resnet50`, `101` or `152` of `models.get`, or their `v2`.
        source: The network of `keras.applications`: `ResNet50`, ..., `ResNet152V2`.

    Returns:
        A record for each layer of `source` with weights: `source`, `layer` (ours), and `note`,
        empty if all was taken.

    Raises:
        UserError: The two are not of one depth and version; then nothing is changed.
    """
    preactivation = any("preact" in layer.name for layer in source.layers)
    scope = "block_layer" if preactivation else "block_group"
    pairs = [(layer, _our_name(layer.name, scope)) for layer in source.layers if layer.weights]
    ours = {layer.name: layer for layer in model.layers if layer.weights}
    theirs = {name for _, name in pairs}
    if theirs != set(ours):
        example = sorted(theirs ^ set(ours), key=str)[0]
        raise UserError(
            f"{source.name!r} and {model.name!r} are not of one depth and version ({example!r} is "
            "in one only): give ResNet50, 101, 152 or their V2 of keras.applications and the "
            "network of that name of models.get."
        )
    records, biases = [], {}
    for layer, name in pairs:
        values = [np.array(keras.ops.convert_to_numpy(weight)) for weight in layer.weights]
        targets, note = forward_weights(ours[name]), ""
        if isinstance(layer, keras.layers.Conv2D) and layer.use_bias:
            biases[f"{name}_batch_normalization"] = bias = values.pop()
            if f"{name}_batch_normalization" not in ours and bias.any():
                note = "bias left out: no batch norm follows"
        if isinstance(layer, keras.layers.BatchNormalization) and name in biases:
            values[2] -= biases[name]  # gamma, beta, moving mean, moving variance
        if [value.shape for value in values] != [tuple(target.shape) for target in targets]:
            shapes = [value.shape for value in values]
            note = f"left: shapes {shapes}, ours {[tuple(target.shape) for target in targets]}"
        else:
            for target, value in zip(targets, values, strict=True):
                target.assign(value)
        records.append({"source": layer.name, "layer": name, "note": note})
    renew_angles(model)
    return records


def _our_name(name: str, scope: str) -> str | None:
    """Our name of Keras' layer, None if it has none."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        return _ENDS.get(name)
    group, block, number, kind = match.groups()
    first = f"{scope}{int(group) - 1}_{int(block) - 1}_"
    if number is None:
        return f"{first}bn0_batch_normalization"
    return f"{first}conv{number}" + ("_batch_normalization" if kind == "bn" else "")
