"""Find the layer at which a training step stopped being finite."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from tfcredit.analysis.alignment import labels as labels_of
from tfcredit.training.trainer import Trainer


def diagnose(trainer: Trainer, batches: Iterable) -> str:
    """Find where a step that was not finite went wrong.

    Args:
        trainer: The trainer, with the weights that the step started from.
        batches: This host's (images, labels) of the step.

    Returns:
        A phrase that names the layer.
    """
    suspicions = [_suspicion(trainer, images, labels) for images, labels in batches]
    return max(suspicions)[1] if suspicions else "on another worker"


def _suspicion(trainer: Trainer, images: tf.Tensor, labels: tf.Tensor) -> tuple[bool, str]:
    """True and what is not finite in a batch, or else False and what is largest."""
    network = trainer.network
    for layer in network.layers:
        if any(not _is_finite(weight) for weight in layer.weights):
            return True, f"a weight of layer {layer.name!r} is not finite"
    made = _outputs(network)
    outputs = keras.Model(network.inputs[0], [tensor for _, tensor in made])(images)
    for (name, _), output in zip(made, tf.nest.flatten(outputs), strict=True):
        if not _is_finite(output):
            return True, f"the output of layer {name!r} is not finite"
    variables = network.trainable_variables
    with tf.GradientTape() as tape:
        total = trainer.objective(images, labels)["loss"]
    label = labels_of(network)
    for layer, loss in trainer.alignment_losses():
        if not _is_finite(loss):
            name = label.get(id(layer), {"layer": layer.name})["layer"]
            return True, f"the alignment loss of layer {name!r} is not finite"
    gradients = tape.gradient(total, variables)
    # Errors travel down, so the topmost layer is the one where they went wrong first.
    for variable, gradient in reversed(list(zip(variables, gradients, strict=True))):
        if gradient is not None and not _is_finite(gradient):
            return True, f"the gradient of {variable.path!r} is not finite"
    sizes = [0.0 if g is None else float(tf.reduce_max(tf.abs(g))) for g in gradients]
    largest = int(np.argmax(sizes))
    return (
        False,
        f"the gradient of {variables[largest].path!r} reaches {sizes[largest]:.1e}, so that "
        "the norm of all gradients overflows",
    )


def _outputs(network: keras.Model) -> list[tuple[str, keras.KerasTensor]]:
    """Names of layers and what they give, of each call: a layer may give several tensors."""
    graph = keras.Model(network.inputs[0], network.outputs)  # of a sequential model too
    nodes = graph._nodes_by_depth
    calls = [call for depth in sorted(nodes, reverse=True) for call in nodes[depth]]
    return [(call.operation.name, tensor) for call in calls for tensor in call.output_tensors]


def _is_finite(tensor) -> bool:
    return bool(np.isfinite(np.asarray(tensor, np.float64)).all())
