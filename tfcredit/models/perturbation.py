"""Networks that learn by node perturbation."""

from typing import Any

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.layers import FeedbackLayer
from tfcredit.layers.recomputation import block_run
from tfcredit.layers.routing import are_backprop_errors
from tfcredit.rules import LayerState, NodePerturbation
from tfcredit.seeding import derive


@keras.saving.register_keras_serializable("tfcredit")
class PerturbedNetwork(keras.Model):
    """A functional model whose layers learn by the rule `node_perturbation`.

    A training call runs the layers twice, without and with noise on their pre-activations, gives
    the first run's output, and counts. In the backward pass each layer's kernel and bias get noise
    times change of the loss; the change is that of the loss to first order in the output,
    c = e (output with noise - output without), with the error e at the output. So any loss, its
    weights and reduction count; the papers take the difference of two losses, which differs from
    c by the order of s^2. Inference is the functional model's.

    Layers that draw anew at each call, as dropout, add their own noise to c.

    Args:
        inputs: As `keras.Model` takes them.
        outputs: Likewise; one tensor.
        name: Name of the model.
        **kwargs: Of `keras.Model`.

    Raises:
        UserError: A layer would not learn: one with trainable variables and another rule or none,
            as batch norm; or it is of a kind whose products are not known.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)
        for layer in self.operations:
            perturbed = isinstance(layer, FeedbackLayer) and isinstance(
                layer.rule, NodePerturbation
            )
            if not perturbed and getattr(layer, "trainable_variables", None):
                raise UserError(
                    f"layer {layer.name!r} ({type(layer).__name__}) would not learn, as no error "
                    "travels under rule 'node_perturbation': give it this rule too, freeze it "
                    "(trainable=False), or take a network without it, such as 'fc' or 'conv'."
                )
            if perturbed and not hasattr(layer, "connection"):
                raise UserError(
                    f"rule 'node_perturbation' knows no products of layer {layer.name!r} "
                    f"({type(layer).__name__}): take a dense or convolutional one."
                )
        self.perturbation_step = self.add_weight(
            name="perturbation_step",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def call(self, inputs, training=None, mask=None):
        """The output; in a training call its error becomes change of the loss times noise."""
        clean = super().call(inputs, training=training, mask=mask)
        run = block_run()
        again = run is not None and run.repeated is not None
        if again:
            step = run.recall(self)  # A recomputed block repeats its first run's noise.
        else:
            step = tf.convert_to_tensor(self.perturbation_step) if training else None
            if run is not None:
                run.keep(self, step)
        if step is None:
            return clean
        scores = []

        def with_noise(operation):
            if not isinstance(operation, FeedbackLayer):
                return operation

            def call(x):
                # A layer that is called twice draws noise for each call.
                seed = derive(operation.seed, "perturbation", len(scores))
                outputs, score = _perturb(operation, x, seed, step)
                scores.append(score)
                return outputs

            return call

        inputs = self._standardize_inputs(inputs)
        (noisy,) = tf.nest.flatten(self._run_through_graph(inputs, operation_fn=with_noise))
        if not again:
            self.perturbation_step.assign(step + 1)
        return _credit(clean, noisy, tf.add_n(scores))


def _perturb(
    layer: FeedbackLayer, x: tf.Tensor, seed: int, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A layer's output with noise, and each sample's <xi, y>/s, whose gradient in y is xi/s."""
    x = tf.stop_gradient(tf.cast(x, layer.compute_dtype))
    kernel, bias = tf.convert_to_tensor(layer.kernel), layer._shaped_bias()
    y = layer.connection.op(x, tf.cast(kernel, x.dtype))
    y = y if bias is None else y + tf.cast(bias, x.dtype)
    state = LayerState(layer.connection, x, y, kernel, None, bias, layer.activation, seed, step)
    noise = tf.ensure_shape(state.noise(tf.shape(y), tf.float32), y.shape)
    score = _sample_sums(noise * tf.cast(y, tf.float32)) / layer.rule.stddev
    y += tf.cast(layer.rule.stddev * noise, y.dtype)
    return (y if layer.activation is None else layer.activation(y)), score


def _credit(clean: tf.Tensor, noisy: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """`clean`, whose error reaches `score` as the change of each sample's loss."""

    @tf.custom_gradient
    def credit(outputs, _):
        def gradient(error):
            if are_backprop_errors():
                return error, None
            change = tf.cast(noisy, tf.float32) - tf.cast(clean, tf.float32)
            return None, _sample_sums(tf.cast(error, tf.float32) * change)

        return tf.identity(outputs), gradient

    return credit(clean, score)


def _sample_sums(values: tf.Tensor) -> tf.Tensor:
    """Of `[n, ...]`, the sum over all but the first axis."""
    return tf.reduce_sum(values, list(range(1, values.shape.rank)))
