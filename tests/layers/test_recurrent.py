"""Recurrent layers: their numbers, against NumPy and against Keras' layers."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import ONE_OF_EACH, RULES
from tests.layers import recurrent_reference as reference
from tfcredit import layers, rules
from tfcredit.analysis.alignment import angle
from tfcredit.errors import UserError
from tfcredit.layers.routing import backprop_errors
from tfcredit.rules.state import renewal

KINDS = ["SimpleRNN", "LSTM", "GRU"]
EVERY = pytest.mark.parametrize("name", KINDS)
CASES = {
    "SimpleRNN": ("SimpleRNN", {}, reference.simple_rnn),
    "LSTM": ("LSTM", {}, reference.lstm),
    "GRU": ("GRU", {}, reference.gru),
    "GRU, reset before": ("GRU", {"reset_after": False}, reference.gru_reset_before),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def made(name, rule="feedback_alignment", units=4, features=3, batch=None, **options):
    """A built layer whose weights and feedback kernels are none of them zero."""
    keras.utils.set_random_seed(0)
    layer = getattr(layers, name)(units, rule=rule, **{"seed": 3, **options})
    layer.build((batch, None, features))
    for index, weight in enumerate(layer.weights):
        if weight.dtype != "int32":
            weight.assign(weight + 0.3 * draw(*weight.shape, seed=index))
    return layer


def gradients(layer, x, errors, **call):
    """Outputs, and the gradients of x and the Keras layer's weights, for errors of the outputs."""
    x = tf.constant(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **call)
        loss = tf.reduce_sum(tf.cast(errors, y.dtype) * y)
    weights = [v.value for v in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)]
    return [y, *tape.gradient(loss, [x, *weights])]


def assert_close(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        scale = max(float(np.abs(other).max()), 1e-30)
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_backward_pass_is_that_of_numpy(case):
    name, options, by_hand = CASES[case]
    layer = made(name, dtype="float64", return_sequences=True, **options)
    cell, x, errors = layer.cell, draw(2, 7, 3), draw(2, 7, 4, seed=1)
    kernels = cell.kernel, cell.recurrent_kernel, cell.bias
    feedback = cell.feedback_kernel, cell.recurrent_feedback_kernel
    outputs, backward = by_hand(x, *(v.numpy() for v in (*kernels, *feedback)))
    expected = [outputs, *backward(errors)]
    for training in (False, True):
        assert_close(gradients(layer, x, errors, training=training), expected, 1e-12)
    run = tf.function(lambda: gradients(layer, x, errors, training=True))
    assert_close(run(), expected, 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_keras_where_b_is_w(case):
    """Over 50 steps, in float32."""
    name, options, _ = CASES[case]
    mine = made(name, return_sequences=True, units=8, **options)
    theirs = twin(mine, name, return_sequences=True, **options)
    x, errors = draw(4, 50, 3), draw(4, 50, 8, seed=1)
    assert_close(gradients(mine, x, errors), gradients(theirs, x, errors), 1e-6)


def twin(mine, name, batch=None, **options):
    """Keras' layer with the weights of ours, whose B become W."""
    options = {name: value for name, value in options.items() if "rule" not in name}
    if name != "SimpleRNN":
        options["use_cudnn"] = False  # Keras 3.15's own attempt fails on dropout by gate.
    theirs = getattr(keras.layers, name)(mine.units, **{"seed": 3, **options})
    theirs.build((batch, None, 3))
    cell = mine.cell
    theirs.set_weights([cell.kernel, cell.recurrent_kernel, *([cell.bias] * cell.use_bias)])
    if cell.input_product is not None:
        cell.feedback_kernel.assign(cell.kernel)
        cell.recurrent_feedback_kernel.assign(cell.recurrent_kernel)
    return theirs


OPTIONS = {
    "backwards": {"go_backwards": True, "return_sequences": True},
    "last output and states": {"return_state": True},
    "unrolled": {"unroll": True, "return_sequences": True},
    "no bias": {"use_bias": False},
    "activation": {"activation": "relu", "return_sequences": True},
    "dropout": {"dropout": 0.4, "return_sequences": True},
    "recurrent dropout": {"recurrent_dropout": 0.4, "dropout": 0.3, "return_sequences": True},
    "no loop in the end": {"unroll": True, "go_backwards": True},
    "both": {"zero_output_for_mask": True, "return_sequences": True},
    "all": {
        **{"zero_output_for_mask": True, "return_sequences": True},
        **{"unroll": True, "go_backwards": True},
    },
}
GATED = {
    "dropout by gate": {"dropout": 0.4, "implementation": 1},
    "implementation 1": {"implementation": 1},
    "no forget bias": {"unit_forget_bias": False},
    "reset before": {"reset_after": False, "recurrent_dropout": 0.4},
    "reset before, unrolled": {"reset_after": False, "unroll": True, "return_sequences": True},
    "recurrent activation": {"recurrent_activation": "hard_sigmoid"},
}
MASK = np.array([[0, 0, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)


def options_of(name):
    """The options that a layer has."""
    found = dict(OPTIONS)
    if name != "SimpleRNN":
        gru_alone = [case for case in GATED if "reset" in case]
        left = ["no forget bias"] if name == "GRU" else gru_alone
        found |= {case: values for case, values in GATED.items() if case not in left}
    return found


@pytest.mark.every(14)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "name, option", [(name, option) for name in KINDS for option in options_of(name)]
)
def test_options_are_those_of_keras(name, option, masked):
    """Outputs, states and, with B = W, gradients; the same dropout of the same seed."""
    options = options_of(name)[option]
    mine, theirs = twins(name, options, batch=4)
    x = tf.constant(draw(4, 5, 3), tf.float32)
    state = [tf.constant(draw(4, 4, seed=9), tf.float32)] * (2 if name == "LSTM" else 1)
    mask = tf.constant(MASK) if masked else None
    results = []
    for layer in (mine, theirs):
        with tf.GradientTape() as tape:
            tape.watch([x, *state])
            y = layer(x, initial_state=state, mask=mask, training=True)
            loss = sum(tf.reduce_sum(tf.sin(3.0 * part)) for part in tf.nest.flatten(y))
        weights = (v for v in layer.weights if "feedback" not in v.name)
        sources = [x, *state, *(v.value for v in weights)]
        results.append([*tf.nest.flatten(y), *tape.gradient(loss, sources)])
    assert_close(*results, 2e-6)
    for one, other in zip(mine(x, mask=mask), theirs(x, mask=mask), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def twins(name, options, batch=None):
    mine = made(name, batch=batch, **options)
    return mine, twin(mine, name, batch, **options)


@pytest.mark.every(3)
@EVERY
def test_stateful_layers_go_on_where_they_were(name):
    mine, theirs = twins(name, {"stateful": True}, batch=4)
    for seed in range(2):
        x = tf.constant(draw(4, 5, 3, seed=seed), tf.float32)
        np.testing.assert_allclose(mine(x), theirs(x), rtol=0, atol=2e-6)
    for layer in (mine, theirs):
        layer.reset_state()
    np.testing.assert_allclose(mine(x), theirs(x), rtol=0, atol=2e-6)


@pytest.mark.every(3)
@EVERY
def test_lengths_that_are_not_known(name):
    """In a graph that knows neither batch nor steps."""
    mine, theirs = twins(name, {"return_sequences": True})
    specs = tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None], tf.bool)

    def run(layer):
        @tf.function(input_signature=specs)
        def step(x, mask):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, mask=mask, training=True)
                loss = tf.reduce_sum(tf.sin(y))
            return y, *tape.gradient(loss, [x, layer.cell.recurrent_kernel.value])

        return step

    steps = run(mine), run(theirs)
    for x in (draw(4, 5, 3), draw(2, 9, 3)):
        n, length, _ = x.shape
        mask = np.arange(length) < [[2], [length], [length - 1], [1]][:n]
        x = tf.constant(x, tf.float32)
        assert_close(*(step(x, tf.constant(mask)) for step in steps), 2e-6)


RECURRENT = [rule for rule in RULES if rules.get(RULES[rule]).sends_error]
RECURRENT = [r for r in RECURRENT if not rules.get(RULES[r]).perturbs]
RECURRENT = [r for r in RECURRENT if rules.get(RULES[r]).feedback_rank is None]


def called(name, rule, **options):
    """A layer of a rule; a function of x that gives all that a training call gives."""
    layer = made(name, RULES[rule], return_sequences=True, **options)

    def run(x):
        variables = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            total = tf.reduce_sum(tf.sin(3.0 * tf.cast(y, tf.float32))) + sum(layer.losses)
        gradients = tape.gradient(total, [x, *variables], unconnected_gradients="zero")
        return [y, *layer.losses, *gradients]

    return layer, run


X = tf.constant(draw(3, 5, 3), tf.float32)


@pytest.mark.every(100)
@pytest.mark.parametrize("rule", RECURRENT)
@EVERY
def test_rules_in_eager_mode_graphs_and_xla(name, rule):
    results = []
    for wrap in (lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)):
        layer, run = called(name, rule)
        results.append([*wrap(run)(X), *layer.get_weights()])
    for other in results[1:]:
        assert_close([*map(np.asarray, other)], [*map(np.asarray, results[0])], 2e-5)


@pytest.mark.every(36)
@pytest.mark.parametrize("rule", [rule for rule in RECURRENT if rule in ONE_OF_EACH])
@EVERY
def test_fit_by_xla(name, rule):
    """Masked, in both directions, one of each way in which B comes by its values."""
    results, targets = [], draw(6, 2, seed=1)
    x = draw(6, 5, 3)
    x[::2, 3:] = 0.0
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        layer = getattr(layers, name)(4, rule=RULES[rule], seed=1)
        model = keras.Sequential(
            [
                keras.Input((5, 3)),
                keras.layers.Masking(),
                keras.layers.Bidirectional(layer),
                layers.Dense(2, rule=RULES[rule], seed=2),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        history = model.fit(x, targets, batch_size=3, epochs=2, shuffle=False, verbose=0).history
        results.append([np.array(history["loss"]), *model.get_weights()])
    assert_close(results[1], results[0], 2e-5)


@pytest.mark.every(3)
@EVERY
def test_cells_may_have_another_precision_than_their_layer(name):
    """Keras casts what a cell gets to the cell's precision."""
    cell, x = f"{name}Cell", draw(3, 5, 3)
    mine, theirs = (
        [make(4, dtype=dtype) for dtype in ("float64", "float32")]
        for make in (partial(getattr(layers, cell), rule="usf"), getattr(keras.layers, cell))
    )
    stacks = layers.RNN(mine, dtype="float64"), keras.layers.RNN(theirs, dtype="float64")
    for stack in stacks:
        stack.build((None, 5, 3))
    for one, other in zip(mine, theirs, strict=True):
        other.set_weights([one.kernel, one.recurrent_kernel, one.bias])
    outputs = [stack(tf.constant(x)) for stack in stacks]
    assert outputs[0].dtype == outputs[1].dtype
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-6)


@pytest.mark.every(5)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rule", ["alignment", "calibrated_mirror", "kolen_pollack", "usf"])
def test_a_sequence_is_one_training_call_of_both_kernels(case, rule):
    """R, dB and the renewed B are those of the rule on x and y of all steps together."""
    name, options, by_hand = CASES[case]
    layer = made(name, RULES[rule], dtype="float64", return_sequences=True, **options)
    cell, x, errors = layer.cell, draw(3, 6, 3), draw(3, 6, 4, seed=1)
    states = states_by_hand(layer, x)
    before = [v.numpy() for v in (cell.feedback_kernel, cell.recurrent_feedback_kernel)]
    with tf.GradientTape() as tape:
        y = layer(tf.constant(x), training=True)
        loss = tf.reduce_sum(errors * y) + sum(layer.losses)
    feedback = cell.feedback_kernel, cell.recurrent_feedback_kernel
    found = tape.gradient(loss, [v.value for v in feedback], unconnected_gradients="zero")
    _, backward = by_hand(
        x, *(v.numpy() for v in (cell.kernel, cell.recurrent_kernel, cell.bias, *feedback))
    )
    taught = backward(errors)[1:3]
    for product, state, b, db, dw, now in zip(
        (cell.input_product, cell.recurrent_product),
        states,
        before,
        found,
        taught,
        feedback,
        strict=True,
    ):
        rule_of, expected = product.rule, tf.zeros_like(db)
        with tf.GradientTape() as tape:
            tape.watch(state.feedback_kernel)
            r = rule_of.loss(state)
        if r is not None:
            np.testing.assert_allclose(product.alignment_losses, [r], rtol=1e-9)
            expected += tape.gradient(r, state.feedback_kernel)
        share = rule_of.gradient(state, None, tf.constant(dw))
        expected += 0.0 if share is None else share
        np.testing.assert_allclose(db, expected, rtol=0, atol=1e-9)
        renewed, _ = renewal(rule_of, state, "a test")
        np.testing.assert_allclose(now, b if renewed is None else renewed, rtol=0, atol=1e-9)


def states_by_hand(layer, x):
    """What the rules of both kernels see, from the outputs of a call that is no training call."""
    h = layer(tf.constant(x)).numpy()
    before, cell = np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], 1), layer.cell
    if layer.name.startswith("gru") and not layer.reset_after:
        z = x @ cell.kernel.numpy() + cell.bias.numpy()
        gates = z[..., 4:8] + before @ cell.recurrent_kernel.numpy()[:, 4:8]
        before = np.stack([before, before, reference.sigmoid(gates) * before], 2)
    states = []
    for product, inputs in ((cell.input_product, x), (cell.recurrent_product, before)):
        state = product.layer_state(tf.constant(inputs))
        if inputs.ndim == 3:
            np.testing.assert_allclose(state.y, inputs @ product.kernel.numpy(), atol=1e-12)
        states.append(state)
    return states


@EVERY
def test_masked_steps_are_no_samples(name):
    layer = made(name, RULES["alignment"])
    long, short = draw(3, 6, 3), draw(3, 4, 3)
    long[:, 2:] = short
    mask = np.arange(6) >= [[2], [2], [2]]
    layer(tf.constant(short, tf.float32), training=True)
    expected = [float(r) for r in layer.losses]
    layer(tf.constant(long, tf.float32), mask=tf.constant(mask), training=True)
    np.testing.assert_allclose([float(r) for r in layer.losses], expected, rtol=1e-5)


@pytest.mark.every(3)
@EVERY
def test_each_kernel_has_its_rule(name):
    layer = made(name, "info_alignment", recurrent_rule="calibrated_mirror")
    cell = layer.cell
    assert cell.feedback_kernel.trainable and not cell.recurrent_feedback_kernel.trainable
    layer(X, training=True)
    assert len(layer.losses) == 1
    step = tf.function(lambda: layer(X, training=True))
    for _ in range(300):
        step()
    assert angle(cell.recurrent_kernel, cell.recurrent_feedback_kernel) < 8
    assert int(cell.recurrent_product._step) == 301, "once in a call, not in each step"


@pytest.mark.every(2)
@EVERY
@pytest.mark.parametrize("which", ["rule", "recurrent_rule"])
def test_backprop_of_one_kernel(name, which):
    given = {"rule": "feedback_alignment", "recurrent_rule": "feedback_alignment"}
    layer = made(name, return_sequences=True, **given | {which: "backprop"})
    cell, x, errors = layer.cell, draw(2, 5, 3), draw(2, 5, 4, seed=1)
    feedback = [cell.feedback_kernel, cell.recurrent_feedback_kernel]
    assert [v is None for v in feedback] == [which == "rule", which != "rule"]
    own = cell.kernel, cell.recurrent_kernel
    b, c = (w if v is None else v for v, w in zip(feedback, own, strict=True))
    weights = (v.numpy() for v in (cell.kernel, cell.recurrent_kernel, cell.bias, b, c))
    _, backward = CASES[name][2](x, *weights)
    assert_close(gradients(layer, x, errors)[1:], backward(errors), 2e-6)


@pytest.mark.every(3)
@EVERY
def test_errors_of_backprop_where_they_are_asked_for(name):
    layer = made(name, return_sequences=True)
    theirs = twin_of_weights(layer, name)
    errors = tf.constant(draw(3, 5, 4, seed=1), tf.float32)

    @tf.function
    def both():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(X)
            loss = tf.reduce_sum(errors * layer(X, training=True))
        sources = [X, layer.cell.recurrent_kernel.value]
        with backprop_errors():
            true = tape.gradient(loss, sources)
        return tape.gradient(loss, sources), true

    routed, true = both()
    expected = gradients(theirs, X, errors)
    assert_close(true, [expected[1], expected[3]], 2e-6)
    assert np.abs(routed[0] - true[0]).max() > 1e-2


def twin_of_weights(mine, name):
    theirs = getattr(keras.layers, name)(mine.units, return_sequences=mine.return_sequences)
    theirs.build((None, None, 3))
    theirs.set_weights([mine.cell.kernel, mine.cell.recurrent_kernel, mine.cell.bias])
    return theirs


@pytest.mark.every(11)
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("rule", ["alignment", "calibrated_mirror", "kolen_pollack", "usf"])
@EVERY
def test_mixed_precision(name, rule, dtype):
    results = []
    for policy in ("float32", dtype):
        layer, run = called(name, rule, dtype=policy)
        results.append([*map(np.float32, run(tf.cast(X, layer.compute_dtype)))])
        assert all(weight.dtype in ("float32", "int32") for weight in layer.weights)
        assert layer(X).dtype == layer.compute_dtype
    assert_close(results[1], results[0], 0.05 if dtype == "mixed_bfloat16" else 0.01)


@pytest.mark.every(5)
@pytest.mark.parametrize("rule", ["alignment", "calibrated_mirror", "kolen_pollack"])
@EVERY
def test_blocks_that_are_run_again_in_the_backward_pass(name, rule):
    results = []
    for wrap in (lambda f: f, tf.recompute_grad):
        layer = made(name, RULES[rule], return_sequences=True)
        block = wrap(lambda x, layer=layer: layer(x, training=True))
        with tf.GradientTape() as tape:
            tape.watch(X)
            y = block(X)
            loss = tf.reduce_sum(tf.sin(y)) + sum(layer.losses)
        sources = [X, *(v.value for v in layer.trainable_variables)]
        results.append([y, loss, *tape.gradient(loss, sources), *layer.get_weights()])
    assert_close([*map(np.asarray, results[1])], [*map(np.asarray, results[0])], 1e-5)


@EVERY
def test_rules_see_the_errors_of_a_sequence_without_the_scale_of_the_loss(name):
    class Signs(rules.Rule):
        name = "signs"

        def gradient(self, state, dy, dw):
            return tf.sign(dw) + tf.reduce_sum(dy)

    found = []
    for scale in (1.0, 64.0):
        layer = made(name, Signs(), return_sequences=True)
        with tf.GradientTape() as tape:
            loss = scale * (tf.reduce_sum(tf.sin(layer(X, training=True))) + sum(layer.losses))
        cell = layer.cell
        feedback = cell.feedback_kernel.value, cell.recurrent_feedback_kernel.value
        found.append([db / scale for db in tape.gradient(loss, feedback)])
    assert_close(found[1], found[0], 1e-4)


@EVERY
def test_frozen_layers_learn_nothing(name):
    layer = made(name, RULES["alignment"], recurrent_rule="calibrated_mirror")
    layer.trainable = False
    before = layer.get_weights()
    layer(X, training=True)
    assert layer.losses == [] and layer.trainable_variables == []
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.every(4)
@EVERY
@pytest.mark.parametrize("which", ["rule", "recurrent_rule", "both"])
def test_kernels_of_the_rule_frozen_stay_as_they_were_drawn(name, which, tmp_path):
    given = {"rule": "usf", "recurrent_rule": "usf"}
    given = dict.fromkeys(given, "frozen") if which == "both" else given | {which: "frozen"}
    model = keras.Sequential([keras.Input((5, 3)), getattr(layers, name)(4, **given)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    held = {"rule": ["kernel", "bias"], "recurrent_rule": ["recurrent_kernel"]}
    held["both"] = held["rule"] + held["recurrent_rule"]
    for trainable in (False, True):  # as a user thaws what was frozen for fine-tuning
        model.layers[0].trainable = trainable
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        cell = each.layers[0].cell
        before = {key: getattr(cell, key).numpy() for key in held["both"]}
        if which != "both":  # Keras refuses to train nothing
            each.fit(X, np.ones((3, 4)), verbose=0)
        assert [key for key in before if not getattr(cell, key).trainable] == held[which]
        moved = [key for key in before if (getattr(cell, key).numpy() != before[key]).any()]
        assert {*held["both"]} - {*moved} == {*held[which]}


@pytest.mark.every(3)
@EVERY
def test_errors_pass_a_frozen_layer_as_in_backprop(name):
    layer = made(name, "frozen", return_sequences=True)
    theirs, errors = twin_of_weights(layer, name), draw(3, 5, 4, seed=1)
    assert_close(gradients(layer, X, errors)[:2], gradients(theirs, X, errors)[:2], 2e-6)


@pytest.mark.slow
def test_float16_skips_what_is_not_finite_and_learns_the_rest():
    def network(dtype):
        keras.utils.set_random_seed(0)
        inner = layers.LSTM(4, rule="kolen_pollack", dtype=dtype, seed=1)
        return keras.Sequential(
            [keras.Input((5, 3)), inner, layers.Dense(2, rule="kolen_pollack", seed=2)]
        )

    results = []
    for dtype in ("float32", "mixed_float16"):
        model, sgd = network(dtype), keras.optimizers.SGD(0.1)
        scaled = keras.optimizers.LossScaleOptimizer(sgd, 256.0)
        model.compile(sgd if dtype == "float32" else scaled, "mse", jit_compile=False)
        model.fit(X, np.ones((3, 2)), epochs=2, verbose=0)
        results.append(model.get_weights())
    assert_close(results[1], results[0], 0.01)


@EVERY
def test_second_derivatives_are_refused(name):
    layer = made(name)
    with tf.GradientTape() as outer:
        outer.watch(X)
        with tf.GradientTape() as inner:
            inner.watch(X)
            y = layer(X)
        slope = inner.gradient(y, X)
    with pytest.raises(UserError, match="has no second derivatives"):
        outer.gradient(slope, X)


REPLICAS = """
import sys
import keras, numpy as np
from tfcredit import layers

def make():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((5, 3)), keras.layers.Masking(),
        keras.layers.Bidirectional(
            layers.GRU(4, return_sequences=True, rule="info_alignment", seed=1)
        ),
        layers.LSTM(4, return_sequences=True, rule="calibrated_mirror", seed=2),
        layers.SimpleRNN(4, rule="kolen_pollack", recurrent_rule="tracking_mirror", seed=3),
        layers.Dense(2, rule="usf", seed=4),
    ])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=False)
    return model

random = np.random.RandomState(0)
x, y = random.randn(24, 5, 3).astype("float32"), random.randn(24, 2).astype("float32")
x[::2, 3:] = 0.0
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
alone = make()
with strategy.scope():
    mirrored = make()
for model in (alone, mirrored):
    model.fit(data, epochs=2, shuffle=False, verbose=0)
for variable in mirrored.weights:
    first, second = (v.numpy() for v in strategy.experimental_local_results(variable.value))
    np.testing.assert_array_equal(first, second, err_msg=variable.path)
pairs = zip(alone.get_weights(), mirrored.get_weights(), strict=True)
np.save(sys.argv[1], max(np.abs(a - b).max() for a, b in pairs))
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_two_replicas_are_one_device(two_cpus, tmp_path):
    two_cpus(REPLICAS, str(tmp_path / "difference.npy"))
    assert np.load(tmp_path / "difference.npy") < 2e-6


def test_refusals():
    for cls in (layers.SimpleRNN, layers.LSTMCell):
        with pytest.raises(UserError, match="several kernels.*'direct_feedback_alignment'"):
            cls(4, rule="direct_feedback_alignment")
        with pytest.raises(UserError, match="'direct_feedback_alignment'"):
            cls(4, rule="usf", recurrent_rule="direct_feedback_alignment")
        with pytest.raises(UserError, match="recurrent_rule=, such as"):
            cls(4, rule="phase_free_mirror")
    for cls in (layers.LSTM, layers.GRU):
        with pytest.raises(UserError, match="use_cudnn=True of layer 'mine' contradicts"):
            cls(4, rule="usf", use_cudnn=True, name="mine")
        assert cls(4, rule="backprop", use_cudnn=True).use_cudnn is True
    for cls in (layers.Dense, layers.SeparableConv2D):
        with pytest.raises(UserError, match="has no recurrent kernel"):
            cls(4, 3, recurrent_rule="usf") if "Sep" in cls.__name__ else cls(
                4, recurrent_rule="usf"
            )
    with pytest.raises(UserError, match="activation 'mine' \\(PReLU\\), whose weights"):
        made("GRU", activation=keras.layers.PReLU(name="mine"))
    made("GRU", activation=keras.layers.LeakyReLU())(X)
    with pytest.raises(UserError, match="mask of shape \\(3, 4\\) for sequences"):
        made("LSTM")(X, mask=tf.ones([3, 4], bool))
    with pytest.raises(UserError, match="'mine' \\(LSTMCell\\) has no feedback kernels"):
        layers.RNN([layers.GRUCell(3), keras.layers.LSTMCell(4, name="mine")])
