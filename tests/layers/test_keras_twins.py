"""Each layer against the Keras layer of its name, over its options, in float32."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.crossing import crossed
from tfcredit import layers


def options(**values):
    """All combinations of option values, as dictionaries."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


FORMATS = ["channels_last", "channels_first"]
STEPS = [{}, {"strides": 2}, {"strides": 3}, {"dilation_rate": 2}]
BOTH = [*STEPS, {"strides": 2, "dilation_rate": 2}]
SIZES = {1: (9,), 2: (7, 8), 3: (5, 6, 5)}


def convolutions(rank):
    paddings = ["same", "valid", "causal"] if rank == 1 else ["same", "valid"]
    for padding, size, data_format in itertools.product(paddings, (1, 3), FORMATS):
        if padding == "causal" and data_format == "channels_first":
            continue  # Keras refuses it.
        for steps, groups in itertools.product(STEPS, (1, 2)):
            if max(size, *steps.values(), 1) * groups == 6 and data_format == "channels_first":
                continue  # enough of them
            more = {"padding": padding, "data_format": data_format, "groups": groups, **steps}
            yield f"Conv{rank}D", (4, size), more, rank


def transposed(rank):
    for padding, size, steps in itertools.product(["same", "valid"], (1, 2, 3), STEPS):
        yield f"Conv{rank}DTranspose", (3, size), {"padding": padding, **steps}, rank
    for padding, extra in itertools.product(["same", "valid"], (0, 1)):
        more = {"padding": padding, "strides": 2, "output_padding": extra}
        yield f"Conv{rank}DTranspose", (3, 3), more, rank


def depthwise(rank):
    for padding, size, data_format in itertools.product(["same", "valid"], (1, 3), FORMATS):
        for steps, multiplier in itertools.product(BOTH, (1, 2)):
            more = {"padding": padding, "data_format": data_format, "depth_multiplier": multiplier}
            yield f"DepthwiseConv{rank}D", (size,), {**more, **steps}, rank


EINSUMS = [
    (("ab,bc->ac", 3), {}, (5,)),
    (("abc,cd->abd", (None, 3)), {"bias_axes": "d"}, (4, 5)),
    (("abc,cde->abde", (None, 2, 3)), {"bias_axes": "de"}, (4, 5)),
    (("abc,cde->abde", (None, 2, 3)), {"bias_axes": "e"}, (4, 5)),
    (("abcd,cde->abe", (None, 6)), {"bias_axes": "e"}, (4, 2, 3)),
    (("abc,bcd->abd", (4, 3)), {"bias_axes": "bd"}, (4, 5)),
    (("...x,xy->...y", 3), {"bias_axes": "y"}, (2, 4, 5)),
    (("ab...,bc->ac...", 3), {"bias_axes": "c"}, (5, 4)),
    (("ab,c->acb", (2, 5)), {}, (5,)),
]


def cases():
    for rank in SIZES:
        kinds = [convolutions, transposed, depthwise] if rank < 3 else [convolutions, transposed]
        for kind in kinds:
            for name, arguments, more, _ in kind(rank):
                space, channels = SIZES[rank], 4
                first = more.get("data_format") == "channels_first"
                yield name, arguments, more, (channels, *space) if first else (*space, channels)
    yield "Dense", (3,), {}, (5,)
    yield "Dense", (3,), {"activation": "relu"}, (2, 4, 5)
    for arguments, more, shape in EINSUMS:
        yield "EinsumDense", arguments, more, shape


CASES = list(cases())
NAMES = sorted({case[0] for case in CASES})


def pairs(case):
    """Every two of a case's option values."""
    _, arguments, more, _ = case
    values = {"strides": 1, "dilation_rate": 1, "activation": None, **more}
    return set(itertools.combinations([arguments, *sorted(values.items())], 2))


def share(name, quick):
    """A layer's cases: few that have every pair of values that occurs, or all the others.

    To run all takes long, as XLA compiles many of the gradients.
    """
    rest = [case for case in CASES if case[0] == name]
    chosen, wanted = [], set().union(*map(pairs, rest))
    while wanted:
        best = max(rest, key=lambda case: len(pairs(case) & wanted))
        chosen.append(best), rest.remove(best)
        wanted -= pairs(best)
    return chosen if quick else rest


# TensorFlow's own filter gradient corrupts memory for strided 1x1 kernels, of Keras' layers too
# (`ConvConnection`): there only the outputs are compared.
def has_safe_gradient(arguments, more):
    return not (arguments[-1] == 1 and more.get("strides", 1) > 1)


def gradients(layer, x):
    """Of a made-up loss: dx and dW."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        weights = np.random.default_rng(1).normal(size=y.shape).astype("float32")
        loss = tf.reduce_sum(weights * y)
    return tape.gradient(loss, [x, layer.kernel.value])


def twins(name, arguments, more, shape):
    """Keras' layer, and ours under backprop and with B = W; all with the same weights."""
    theirs = getattr(keras.layers, name)(*arguments, **more)
    theirs.build((None, *shape))
    theirs.set_weights([weight + 0.1 for weight in theirs.get_weights()])
    mine = []
    for rule in ("backprop", "feedback_alignment"):
        layer = getattr(layers, name)(*arguments, rule=rule, **more)
        layer.build((None, *shape))
        for variable in layer.weights:
            variable.assign(theirs.bias if variable.name == "bias" else theirs.kernel)
        mine.append(layer)
    return theirs, *mine


@pytest.mark.every(12)
@pytest.mark.parametrize("name, few", crossed(NAMES, [True, False], quick=lambda _, few: few))
def test_layer_is_its_twin(name, few):
    """Outputs bit for bit; gradients too under backprop, and to rounding with B = W."""
    for _, arguments, more, shape in share(name, few):
        x = tf.constant(np.random.default_rng(0).normal(size=(3, *shape)), tf.float32)
        theirs, *mine = twins(name, arguments, more, shape)
        expected = theirs(x)
        for layer in mine:
            for y in (layer(x), layer(x, training=True)):
                np.testing.assert_array_equal(y, expected, err_msg=f"{arguments} {more}")
        if not has_safe_gradient(arguments, more):
            continue
        try:
            wanted = gradients(theirs, x)
        except tf.errors.InvalidArgumentError:
            continue  # Keras' own layer has none on this machine.
        for layer in mine:
            for actual, of_twin in zip(gradients(layer, x), wanted, strict=True):
                if layer.rule.name == "backprop":
                    np.testing.assert_array_equal(actual, of_twin, err_msg=str(more))
                np.testing.assert_allclose(actual, of_twin, rtol=0, atol=2e-5, err_msg=str(more))
