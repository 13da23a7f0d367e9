"""Steps of one recurrent layer, beside Keras' layer without cuDNN's fused kernel."""

import statistics
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from benchmarks.cases import PLAIN
from benchmarks.timing import interleave, summary, timed
from tfcredit import layers


def layer_of(kind: str, units: int, rule: str) -> keras.layers.Layer:
    """A layer that gives all outputs of a sequence.

    Args:
        kind: `SimpleRNN`, `LSTM` or `GRU`.
        units: Its units.
        rule: The rule of both kernels, or `PLAIN` for Keras' layer.

    Returns:
        The layer, not built.
    """
    options = {"return_sequences": True} | ({} if kind == "SimpleRNN" else {"use_cudnn": False})
    if rule == PLAIN:
        return getattr(keras.layers, kind)(units, **options)
    return getattr(layers, kind)(units, rule=rule, seed=1, **options)


def training_step(layer: keras.layers.Layer, x: tf.Tensor, jit_compile: bool) -> Callable:
    """A function that takes a step of SGD on the mean square of a layer's outputs."""
    layer.build(x.shape)
    variables, optimizer = layer.trainable_variables, keras.optimizers.SGD(1e-3)
    optimizer.build(variables)

    @tf.function(jit_compile=jit_compile, reduce_retracing=True)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) ** 2) + sum(layer.losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return lambda: float(step(x))


def sequence_times(setting: dict, rules: Sequence[str], rounds: int) -> list[dict]:
    """Times steps of a recurrent layer under some rules and of Keras' layer, in turn.

    Args:
        setting: `layer`, `units`, `steps`, `features`, `batch`, and `mode`: "graph" or "xla".
        rules: The rules, of both kernels.
        rounds: How often each has its turn.

    Returns:
        A row for the baseline and for each rule.
    """
    x = tf.random.normal([setting["batch"], setting["steps"], setting["features"]], seed=0)
    runs = {}
    for rule in [PLAIN, *rules]:
        layer = layer_of(setting["layer"], setting["units"], rule)
        runs[rule] = timed(training_step(layer, x, setting["mode"] == "xla"))
    seconds = interleave(runs, rounds)
    load = statistics.mean(seconds.pop("load"))
    return [
        setting | {"rule": rule, "load": load} | summary(values, seconds[PLAIN])
        for rule, values in seconds.items()
    ]
