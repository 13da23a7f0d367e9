"""Direct rules beside Nøkland's: kernels that learn, and targets in place of errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import cross_entropy
from tests.models.test_direct_feedback import error_at_logits, gradients, kernels, samples
from tfcredit import convert, layers, models, rules
from tfcredit import data as sets
from tfcredit.errors import UserError

DFA, DKP, DRTP = "direct_feedback_alignment", "direct_kolen_pollack", "drtp"
L = keras.layers


def dense_net(*rules):
    """Three dense layers, whose wiring draws the same kernels each time."""
    keras.utils.set_random_seed(0)
    rules = rules * 3 if len(rules) == 1 else rules
    made = [
        layers.Dense(units, activation, rule=rule, name=f"dense{i}")
        for i, (units, activation, rule) in enumerate(
            zip((7, 6, 3), ("tanh", "tanh", None), rules, strict=True)
        )
    ]
    return models.wire(keras.Sequential([keras.Input((5,)), *made]), seed=1)


def activities(model, x):
    """The outputs of the dense layers."""
    found = [x]
    for i in range(3):
        found.append(model.get_layer(f"dense{i}")(found[-1]).numpy())
    return [np.asarray(each, "float64") for each in found]


def expected_gradients(model, x, heard, error):
    """Of the dense layers, with what the two hidden activities hear."""
    x, h1, h2, _ = activities(model, x)
    delta1, delta2 = heard[0] * (1 - h1**2), heard[1] * (1 - h2**2)
    pairs = ((x, delta1), (h1, delta2), (h2, error))
    return [each for h, delta in pairs for each in (h.T @ delta, delta.sum(0))]


def test_learned_kernels_get_error_times_activity_and_a_decay():
    model = dense_net(f"{DKP}(decay=0.3)")
    x, labels = samples((5,))
    b1, b2 = (b.astype("float64") for b in kernels(model))
    _, h1, h2, logits = activities(model, x)
    e = error_at_logits(logits, labels)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = cross_entropy()(labels, model(x, training=True)) + sum(model.losses)
    found = tape.gradient(loss, [v.value for v in variables])
    expected = expected_gradients(model, x, [e @ b1, e @ b2], e)
    expected += [e.T @ h1 + 0.3 * b1, e.T @ h2 + 0.3 * b2]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_learned_kernels_of_a_convolutional_net():
    conv = layers.Conv2D(3, 2, activation="tanh", rule=DKP, name="conv")
    top = layers.Dense(3, rule=DKP)
    model = keras.Sequential([keras.Input((4, 4, 2)), conv, L.Flatten(), top])
    model = models.wire(model, seed=1)
    x, labels = samples((4, 4, 2))
    h = conv(x).numpy().reshape(4, 27)
    e = error_at_logits(model(x).numpy().astype("float64"), labels)
    found = gradients(model, x, labels)
    np.testing.assert_allclose(found[-1], e.T @ h, rtol=1e-4, atol=1e-6)
    delta = (e @ kernels(model)[0]).reshape(4, 3, 3, 3) * (1 - h.reshape(4, 3, 3, 3) ** 2)
    np.testing.assert_allclose(found[1], delta.sum((0, 1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam(0.05), "partitioned"])
def test_the_uppermost_kernel_gets_what_w_gets(optimizer):
    """Kolen and Pollack's rule: without decay, B - W^T stays as it was."""
    if optimizer == "partitioned":
        from tfcredit.optimizers import PartitionedOptimizer

        optimizer = PartitionedOptimizer(forward=keras.optimizers.SGD(0.1, 0.9), feedback="adam")
    model = dense_net(f"{DKP}(decay=0)")
    x, labels = samples((5,), 12)
    model.compile(optimizer, cross_entropy())

    def pair():
        return kernels(model)[1], model.get_layer("dense2").kernel.numpy().T

    b, w = pair()
    model.fit(x, labels, 4, epochs=2, verbose=0)
    b_now, w_now = pair()
    assert np.abs(w_now - w).max() > 0.05
    np.testing.assert_allclose(b_now - b, w_now - w, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [2.0, 0.0, 0.5, 1.0]])
def test_targets_in_place_of_errors(weights):
    model = dense_net(DRTP)
    x, labels = samples((5,))
    weights = np.ones(4) if weights is None else np.array(weights)
    b1, b2 = (b.astype("float64") for b in kernels(model))
    *_, logits = activities(model, x)
    e = error_at_logits(logits, labels) * weights[:, None]
    targets = -np.eye(3)[labels] * weights[:, None] / 4
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = cross_entropy()(labels, model(x, training=True), weights)
    found = tape.gradient(loss, [v.value for v in variables])
    expected = expected_gradients(model, x, [targets @ b1, targets @ b2], e)
    assert len(variables) == 6  # B is fixed
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_target_without_error_is_told_from_classes_without_any():
    logits = tf.constant([[28.0, 0, 8, 63, 109, 84], [0.0, 1, 2, 3, 4, 5], [300.0, 0, 0, 0, 0, 0]])
    probabilities, targets = tf.nn.softmax(logits), tf.one_hot([4, 3, 0], 6)
    error = (probabilities - targets) / 3
    assert error[0, 4] == error[0, 1] == 0.0  # float32 holds no more
    heard = targets.numpy() * [[1], [1], [0]] / 3  # nothing is left of the last one's errors
    np.testing.assert_allclose(-rules.get("drtp").signal(error, logits), heard, rtol=1e-5)


def test_errors_of_float64_logits_may_be_those_of_a_float32_loss():
    logits = tf.constant(np.random.default_rng(0).normal(size=(4, 3)))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy()(np.array([0, 1, 2, 1]), logits)
    heard = rules.get("drtp").signal(tape.gradient(loss, logits), logits)
    np.testing.assert_allclose(heard, -np.eye(3)[[0, 1, 2, 1]] / 4, rtol=1e-5)


def test_targets_are_heard_however_right_the_prediction_is():
    """The error falls to 1e-15, where softmax(logits) - targets would be 0 in float32."""
    x, labels = samples((5,))
    found = []
    for scale in (0.0, 35.0):
        model = dense_net(DRTP)
        top = model.get_layer("dense2")
        top.kernel.assign(0.0 * top.kernel)
        top.bias.assign([scale, 0.0, 0.0])
        found.append(gradients(model, x, 0 * labels)[0].numpy())
    assert np.abs(found[0]).max() > 1e-3
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-7)


LOSSES = {
    "squares": keras.losses.MeanSquaredError(),
    "smoothed": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    "binary": keras.losses.BinaryCrossentropy(from_logits=True),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_other_losses_are_told(loss):
    model = dense_net(DRTP)
    x, labels = samples((5,))
    model.compile("sgd", LOSSES[loss])
    with pytest.raises(tf.errors.InvalidArgumentError, match="reads one-hot targets off the"):
        model.fit(x, np.eye(3)[labels], verbose=0)
    if loss == "squares":  # XLA drops assertions
        model.compile("sgd", LOSSES[loss], jit_compile=True)
        model.fit(x, np.eye(3)[labels], verbose=0)
        assert np.isnan(model.get_layer("dense0").kernel.numpy()).all()


def test_each_layer_has_its_rule():
    """What dense0's output hears is by dense1's rule, what dense1's hears by dense2's."""
    model = dense_net(DFA, DRTP, DKP)
    x, labels = samples((5,))
    b1, b2 = kernels(model)
    *_, logits = activities(model, x)
    e = error_at_logits(logits, labels)
    expected = expected_gradients(model, x, [-np.eye(3)[labels] / 4 @ b1, e @ b2], e)
    found = gradients(model, x, labels)
    assert [v.name for v in model.trainable_variables][6:] == ["feedback_kernel_1"]
    for mine, theirs in zip(found[:6], expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    direct = model.get_layer("direct_feedback")
    again = layers.DirectFeedback.from_config(direct.get_config())
    assert again.rule == direct.rule and again.get_config() == direct.get_config()


def test_recurrent_layers_below_learn_through_time():
    """A recurrent layer of Keras hears e B at its output; W carries it back in time."""
    lstm = L.LSTM(4, name="lstm")
    model = keras.Sequential([keras.Input((6, 2)), lstm, layers.Dense(3, rule=DFA)])
    model = models.wire(model, seed=1)
    x, labels = samples((6, 2))
    (b,) = kernels(model)
    heard = error_at_logits(model(x).numpy().astype("float64"), labels) @ b
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(lstm(x) * heard.astype("float32"))
    expected = tape.gradient(total, lstm.trainable_variables[0].value)
    np.testing.assert_allclose(gradients(model, x, labels)[0], expected, rtol=1e-4, atol=1e-7)


def two_rules():
    inputs = keras.Input((5,))
    h = layers.Dense(4)(inputs)
    pair = [layers.Dense(3, rule=rule)(h) for rule in (DFA, DRTP)]
    return models.wire(keras.Model(inputs, layers.Dense(2)(L.Add()(pair))))


MISTAKES = {
    "no direct rule": (
        lambda: layers.DirectFeedback(rule="kolen_pollack"),
        "rule='kolen_pollack' sends no signal from the network's output",
    ),
    "too many": (
        lambda: layers.DirectFeedback(rule=[DFA, DKP]).build([(None, 3), (None, 5)]),
        "has 2 rules for 1 activities",
    ),
    "two for one": (two_rules, r"has DRTP\(\), but another layer on the same input has Direct"),
    "decay": (lambda: layers.Dense(3, rule=f"{DKP}(decay=-1)"), "decay=-1 must be a finite number"),
    "argument": (lambda: layers.Dense(3, rule=f"{DRTP}(decay=1)"), "does not take these arguments"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name):
    make, told = MISTAKES[name]
    with pytest.raises(UserError, match=told):
        make()


@pytest.mark.parametrize("rule", [DKP, DRTP])
def test_conversion_and_back(rule, tmp_path):
    plain = keras.Sequential([keras.Input((5,)), L.Dense(7, "tanh"), L.Dense(3)], name="plain")
    model = convert.to_feedback(plain, rule, seed=1)
    model.compile("sgd", cross_entropy())
    x, labels = samples((5,))
    model.fit(x, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(kernels(loaded)[0], kernels(model)[0])
    assert loaded.get_layer("direct_feedback").rule == model.get_layer("direct_feedback").rule
    back = convert.to_backprop(model)
    np.testing.assert_array_equal(back(x), model(x))
    assert len(back.weights) == 4


@pytest.mark.slow
def test_they_learn():
    """Better than a top layer on hidden layers that are left as they were drawn."""
    images = sets.get("embedded", augment=False)
    accuracy = {}
    for rule in (DKP, DRTP, "frozen"):
        model = models.get("fc", 10, (28, 28, 1), rule, seed=0, widths=32, activation="tanh")
        model.compile(keras.optimizers.SGD(0.03, 0.9), cross_entropy(), metrics=["accuracy"])
        for epoch in range(2):
            model.fit(images.train(128, 0, epoch), shuffle=False, verbose=0)
        accuracy[rule] = model.evaluate(images.evaluation(500), verbose=0)[1]
    # Measured 0.59, 0.65 and 0.78.
    assert accuracy["frozen"] < 0.62 < accuracy[DRTP] < 0.7 < accuracy[DKP]


@pytest.mark.slow
@pytest.mark.multi_device
def test_two_devices_take_the_step_of_one(two_cpus):
    """Those beside too whose state is the same on all replicas, or follows W."""
    printed = two_cpus("""
import numpy as np
from tests.conformance.descriptors import compile_network, network, train
chosen = ["direct_kolen_pollack", "drtp", "frozen", "low_dimensional_feedback(rank=2)"]
for rule in [*chosen, "frozen_backprop(every=2, fraction=0.5)"]:
    weights = []
    for scope in (tf.distribute.get_strategy().scope(), strategy.scope()):
        with scope:
            model = compile_network(network(rule))
            train(model, 5)
        weights.append(model.get_weights())
    print(max(np.abs(one - other).max() for one, other in zip(*weights)))
""")
    assert len(printed.split()) == 5
    assert all(float(number) < 1e-5 for number in printed.split())
