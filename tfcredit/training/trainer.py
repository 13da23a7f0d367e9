"""One training step, one evaluation step: the losses put together, the metrics kept."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from tfcredit.analysis import feedback_layers
from tfcredit.schedules import TaskRate


class Trainer:
    """Trains a compiled network of feedback layers; holds the metrics of an epoch.

    The objective is task_rate * (cross entropy + L2) + sum over layers of R (Kunin et al. 2020,
    section 3).

    Args:
        network: A model that returns logits, compiled with its optimizer.
        task_rate: Factor on cross entropy and L2 as a function of the step; `None` for 1.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(
        self, network: keras.Model, task_rate: TaskRate | None = None, jit_compile: bool = False
    ):
        self.network = network
        self.optimizer = network.optimizer
        self.task_rate = task_rate
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        top = min(5, network.output_shape[-1])
        self.metrics = {
            "loss": keras.metrics.Mean("loss"),
            "task_loss": keras.metrics.Mean("task_loss"),
            "l2_loss": keras.metrics.Mean("l2_loss"),
            "alignment_loss": keras.metrics.Mean("alignment_loss"),
            "top1": keras.metrics.SparseCategoricalAccuracy("top1"),
            "top5": keras.metrics.SparseTopKCategoricalAccuracy(top, "top5"),
        }
        self.test_metrics = {
            "loss": keras.metrics.Mean("test_loss"),
            "top1": keras.metrics.SparseCategoricalAccuracy("test_top1"),
            "top5": keras.metrics.SparseTopKCategoricalAccuracy(top, "test_top5"),
        }
        self._aligned = [layer for layer in feedback_layers(network) if layer.rule.learns]
        self.optimizer.build(network.trainable_variables)
        for metric in (*self.metrics.values(), *self.test_metrics.values()):
            _build(metric, network.output_shape[-1])
        self.step = tf.function(self._step, jit_compile=jit_compile, reduce_retracing=True)
        self._test_step = tf.function(self._evaluate_batch, reduce_retracing=True)

    @property
    def variables(self) -> list[tf.Variable]:
        """All state of a training: kernels, statistics, optimizer slots, steps, metrics."""
        owners = [self.network, self.optimizer, *self.metrics.values()]
        return [variable.value for owner in owners for variable in owner.variables]

    def objective(self, images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of one batch in training mode: total, task, L2, alignment; and logits."""
        logits = tf.cast(self.network(images, training=True), tf.float32)
        task = self.cross_entropy(labels, logits)
        decayed = [v for v in self.network.trainable_variables if v.regularizer is not None]
        l2 = tf.add_n([tf.zeros([]), *(v.regularizer(v) for v in decayed)])
        # A training call puts the layer's R first among its losses, unless its rule has none.
        with_loss = [layer for layer in self._aligned if len(layer.losses) > _regularised(layer)]
        alignment = tf.add_n([tf.zeros([]), *(layer.losses[0] for layer in with_loss)])
        rate = 1.0 if self.task_rate is None else self.task_rate(self.optimizer.iterations)
        total = rate * (task + l2) + alignment
        return {"loss": total, "task": task, "l2": l2, "alignment": alignment, "logits": logits}

    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """One optimizer step; returns whether loss and gradients were finite.

        A step whose loss or gradients are not finite is not taken, so that the kernels that led to
        it can be looked at. (Under float16 the loss scale handles gradients that overflow.)
        """
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            terms = self.objective(images, labels)
            scaled = self.optimizer.scale_loss(terms["loss"])
        gradients = tape.gradient(scaled, variables)
        finite = tf.math.is_finite(terms["loss"])
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))
        if finite:  # a tf.cond
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.metrics["loss"].update_state(terms["loss"])
        self.metrics["task_loss"].update_state(terms["task"])
        self.metrics["l2_loss"].update_state(terms["l2"])
        self.metrics["alignment_loss"].update_state(terms["alignment"])
        self.metrics["top1"].update_state(labels, terms["logits"])
        self.metrics["top5"].update_state(labels, terms["logits"])
        return finite

    def _evaluate_batch(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        logits = tf.cast(self.network(images, training=False), tf.float32)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        self.test_metrics["loss"].update_state(losses)
        self.test_metrics["top1"].update_state(labels, logits)
        self.test_metrics["top5"].update_state(labels, logits)

    def evaluate(self, batches: Iterable) -> dict[str, float]:
        """Cross entropy, top-1 and top-5 over `batches` of (images, labels)."""
        for metric in self.test_metrics.values():
            metric.reset_state()
        for images, labels in batches:
            self._test_step(images, labels)
        return {name: float(metric.result()) for name, metric in self.test_metrics.items()}

    def results(self) -> dict[str, float]:
        """The training metrics since the last `reset`."""
        return {name: float(metric.result()) for name, metric in self.metrics.items()}

    def reset(self) -> None:
        """Start an epoch's metrics anew."""
        for metric in self.metrics.values():
            metric.reset_state()

    def blame(self, images: tf.Tensor, labels: tf.Tensor) -> str:
        """Where a batch whose step was not finite went wrong: a phrase that names the layer."""
        layers = self.network.layers
        for layer in layers:
            if any(not _finite(weight) for weight in layer.weights):
                return f"a weight of layer {layer.name!r} is not finite"
        outputs = keras.Model(self.network.inputs, [layer.output for layer in layers])(images)
        for layer, output in zip(layers, tf.nest.flatten(outputs), strict=True):
            if not _finite(output):
                return f"the output of layer {layer.name!r} is not finite"
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            total = self.objective(images, labels)["loss"]
        for layer in self._aligned:
            if layer.losses and not _finite(layer.losses[0]):
                return f"the alignment loss of layer {layer.name!r} is not finite"
        gradients = tape.gradient(total, variables)
        # Errors travel down, so the topmost layer is the one where they went wrong first.
        for variable, gradient in reversed(list(zip(variables, gradients, strict=True))):
            if not _finite(gradient):
                return f"the gradient of {variable.path!r} is not finite"
        sizes = [float(tf.reduce_max(tf.abs(g))) for g in gradients]
        largest = int(np.argmax(sizes))
        return (
            f"the gradient of {variables[largest].path!r} reaches {sizes[largest]:.1e}, so that "
            "the norm of all gradients overflows"
        )


def _finite(tensor) -> bool:
    return bool(np.isfinite(np.asarray(tensor, np.float64)).all())


def _regularised(layer) -> int:
    return sum(v.regularizer is not None for v in layer.trainable_variables)


def _build(metric: keras.metrics.Metric, classes: int) -> None:
    """Create a metric's variables now, so that a checkpoint can restore them."""
    if isinstance(metric, keras.metrics.SparseCategoricalAccuracy) or "top" in metric.name:
        metric.update_state(tf.zeros([1], tf.int32), tf.zeros([1, classes]))
    else:
        metric.update_state(0.0)
    metric.reset_state()
