"""What travels through B against what would travel through W: by hand in NumPy, and everywhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, convert, layers
from tfcredit.analysis.errors import inner_products, sample_angles
from tfcredit.errors import UserError
from tfcredit.layers.routing import backprop_errors

RANDOM = np.random.RandomState(0)
ANGLES = ("projection_angle", "local_error_angle", "error_angle", "gradient_angle")


def angles(a, b):
    """Degrees between the rows, by the cosine."""
    a, b = (np.reshape(v, [len(v), -1]).astype(float) for v in (a, b))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.degrees(np.arccos(cosines.clip(-1, 1)))


def half_square(labels, outputs):
    return tf.reduce_sum((outputs - labels) ** 2, -1) / 2


def chain(sizes=(3, 4, 5, 2), rule="feedback_alignment", activation=None):
    model = keras.Sequential([keras.Input(sizes[:1])])
    for i, units in enumerate(sizes[1:]):
        model.add(layers.Dense(units, activation, rule=rule, seed=i, name=f"layer{i}"))
    return model


@pytest.mark.parametrize("activation", [None, "tanh"])
def test_a_chain_computed_by_hand(activation):
    model = chain(activation=activation)
    x, labels = RANDOM.normal(size=(7, 3)), RANDOM.normal(size=(7, 2))
    w, b = ([np.array(v, float) for v in kernels] for kernels in zip(*_kernels(model), strict=True))
    slope = (lambda h: 1 - h**2) if activation else np.ones_like
    h = [x]
    for kernel in w:
        y = h[-1] @ kernel
        h.append(np.tanh(y) if activation else y)

    def errors(kernels):
        found = [(h[3] - labels) * slope(h[3]) / 7]
        for i in (2, 1):
            found.insert(0, found[0] @ kernels[i].T * slope(h[i]))
        return found

    rule, true = errors(b), errors(w)
    records = analysis.ErrorAngles(x.astype("float32"), labels.astype("float32"), half_square)(
        model
    )
    assert [record["layer"] for record in records] == ["layer0", "layer1", "layer2"]
    for i, record in enumerate(records):
        gradient, true_gradient = h[i].T @ rule[i], h[i].T @ true[i]
        expected = {
            "projection_angle": angles(h[i] @ w[i], h[i] @ b[i]).mean(),
            "local_error_angle": angles(rule[i] @ b[i].T, rule[i] @ w[i].T).mean(),
            "error_angle": angles(rule[i], true[i]).mean(),
            "error_norm_ratio": np.linalg.norm(rule[i]) / np.linalg.norm(true[i]),
            "gradient_angle": angles(gradient[None], true_gradient[None])[0],
            "gradient_norm_ratio": np.linalg.norm(gradient) / np.linalg.norm(true_gradient),
            "error_reference_norm": np.linalg.norm(true[i]),
            "gradient_reference_norm": np.linalg.norm(true_gradient),
            "error_below_floor": 0,
            "gradient_below_floor": 0,
        }
        assert {k: record[k] for k in expected} == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert records[2]["error_angle"] == 0.0
    assert records[0]["error_angle"] > 10.0


def test_a_reference_that_cancels_is_below_its_floor():
    """Two paths from the first layer to the output that differ in their last digit only."""
    inputs = keras.Input((3,))
    h = layers.Dense(4, rule="feedback_alignment", name="low")(inputs)
    paths = [layers.Dense(2, rule="feedback_alignment", name=name)(h) for name in ("one", "two")]
    model = keras.Model(inputs, keras.layers.Subtract()(paths))
    one, two = model.get_layer("one"), model.get_layer("two")
    x, labels = (RANDOM.normal(size=(6, k)).astype("float32") for k in (3, 2))
    found = {}
    for share in (1e-3, 1e-8):
        two.kernel.assign(one.kernel * (1.0 + share))
        for record in analysis.ErrorAngles(x, labels, half_square)(model):
            found[record["layer"], share] = record
    assert [found["low", share]["error_below_floor"] for share in (1e-3, 1e-8)] == [0, 1]
    assert [found["one", share]["error_below_floor"] for share in (1e-3, 1e-8)] == [0, 0]
    # What B brings is not small: the angle would look like any other.
    assert found["low", 1e-8]["error_norm_ratio"] > 1e3 or np.isnan(
        found["low", 1e-8]["error_norm_ratio"]
    )


def test_a_gradient_of_samples_that_cancel_is_below_its_floor():
    model = chain((3, 2))
    x = RANDOM.normal(size=(4, 3)).astype("float32")
    # The same sample twice, with opposite errors.
    same = np.repeat(x[:1], 2, 0)
    out = model(same).numpy()
    labels = {"apart": out - np.array([[1.0, 2.0]]), "cancel": out + np.array([[1.0], [-1.0]])}
    for name, expected in (("apart", 0), ("cancel", 1)):
        measure = analysis.ErrorAngles(same, labels[name].astype("float32"), half_square)
        (record,) = measure(model)
        assert record["gradient_below_floor"] == expected, name
        assert record["error_below_floor"] == 0


@pytest.mark.parametrize("policy, floor", [("mixed_float16", 1), ("mixed_bfloat16", 0)])
def test_errors_that_underflow_are_below_their_floor(policy, floor):
    """float16 holds numbers below 6e-5 with fewer digits, bfloat16 does not mind."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=policy)])
    x, labels = (RANDOM.normal(size=(4, k)).astype("float32") for k in (3, 2))

    def small(labels, outputs):
        return 1e-5 * half_square(labels, tf.cast(outputs, tf.float32))

    (record,) = analysis.ErrorAngles(x, labels, small)(model)
    assert record["error_below_floor"] == floor


def _kernels(model):
    return [(layer.kernel, layer.feedback_kernel) for layer in model.layers]


def test_spectra_of_errors_of_the_chain():
    model = chain()
    x, labels = RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(6, 2))
    w = [np.array(kernel, float) for kernel, _ in _kernels(model)]
    b = np.array(model.layers[2].feedback_kernel, float)
    error = (x @ w[0] @ w[1] @ w[2] - labels) / 6
    records = analysis.ErrorSpectra(x.astype("float32"), labels.astype("float32"), half_square)(
        model
    )
    for name, kernel in (("error", b), ("true_error", w[2])):
        found = [
            record["singular_value"]
            for record in records
            if (record["layer"], record["matrix"]) == ("layer1", name)
        ]
        expected = np.linalg.svd(error @ kernel.T, compute_uv=False)
        np.testing.assert_allclose(found[:5], expected, rtol=1e-4, atol=1e-6 * expected[0])
        assert len(found) == 6 and found[5] < 1e-6 * found[0]
    ranks = analysis.effective_ranks(records)
    assert ranks[2]["rank_error"] == pytest.approx(ranks[2]["rank_true_error"])
    assert all(1 <= record["rank_error"] <= 2 + 1e-6 for record in ranks)  # two outputs


CASES = {
    "equal": (lambda w: w, 0.0, 1.0),
    "opposite": (lambda w: -w, 180.0, 1.0),
    "double": (lambda w: 2 * w, 0.0, 2.0),
}


@pytest.mark.parametrize("case", CASES)
def test_kernels_with_known_answers(case):
    make, degrees, ratio = CASES[case]
    model = chain((4, 6, 3))
    for layer in model.layers:
        layer.feedback_kernel.assign(make(np.array(layer.kernel)))
    x, labels = (RANDOM.normal(size=(8, k)).astype("float32") for k in (4, 3))
    first, last = analysis.ErrorAngles(x, labels, half_square)(model)
    assert [first[name] for name in ANGLES] == pytest.approx([degrees] * 4, abs=1e-4)
    assert (first["error_norm_ratio"], first["gradient_norm_ratio"]) == pytest.approx(
        (ratio, ratio)
    )
    assert [last[name] for name in ANGLES] == pytest.approx([degrees] * 2 + [0.0] * 2, abs=1e-4)


def test_orthogonal_kernels():
    model = chain((2, 2, 2))
    model.layers[1].kernel.assign(np.eye(2))
    model.layers[1].feedback_kernel.assign([[0.0, -1.0], [1.0, 0.0]])
    x, labels = (RANDOM.normal(size=(8, 2)).astype("float32") for _ in range(2))
    first, second = analysis.ErrorAngles(x, labels, half_square, confidence=0.9)(model)
    assert first["error_angle"] == pytest.approx(90.0, abs=1e-4)
    names = ("projection_angle", "local_error_angle")
    assert [second[name] for name in names] == pytest.approx([90.0] * 2, abs=1e-4)
    assert first["error_angle_low"] == pytest.approx(90.0, abs=1e-4)


def images(rule):
    """Two convolutions that share a layer, one of Keras' own, dropout and batch norm."""
    inputs = keras.Input((6, 6, 2))
    shared = layers.Conv2D(
        2, 3, padding="same", activation="relu", rule=rule, seed=1, name="shared"
    )
    h = shared(shared(inputs))
    h = keras.layers.BatchNormalization()(h)
    h = keras.layers.Dropout(0.5, seed=3)(h)
    h = keras.layers.Conv2D(3, 3, name="keras")(h)
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.DepthwiseConv2D(2, rule=rule, name="deep")]
    )
    h = keras.layers.Flatten()(inner(h))
    model = keras.Model(inputs, layers.Dense(3, rule=rule, seed=2, name="dense")(h))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X, Y = RANDOM.normal(size=(9, 6, 6, 2)).astype("float32"), np.arange(9) % 3


@pytest.mark.every(6)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "rule", ["backprop", "calibrated_mirror", "info_alignment", "kolen_pollack", "brsf"]
)
def test_any_network_and_nothing_of_it_changes(rule, training):
    model = images(rule)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    measure = analysis.ErrorAngles(X, Y, training=training)
    records = measure(model)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable))
    names = [r["layer"].split("/") for r in records]  # paths, as convert.report has them
    assert [name[-1] for name in names] == ["shared", "keras", "deep", "dense"]
    assert [len(name) for name in names] == [1, 1, 2, 1]
    assert measure(model) == records  # the random states were put back too
    for record in records:
        assert set(ANGLES[2:]) < set(record)
        assert ("local_error_angle" in record) == (
            rule != "backprop" and record["layer"] != "keras"
        )
        numbers = [value for value in record.values() if not isinstance(value, str)]
        assert np.isfinite(numbers).all()
        if rule == "backprop":
            assert (record["error_angle"], record["gradient_angle"]) == (0.0, 0.0)
    assert records[3]["error_angle"] == 0.0
    if rule != "backprop":
        assert records[0]["error_angle"] > 1.0
    model.fit(X, Y, verbose=0)  # layers are as they were


def test_true_errors_are_those_of_the_converted_network():
    from tfcredit import convert

    model = images("feedback_alignment")
    twin = convert.to_backprop(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = {}
    for name, network in {"rule": model, "twin": twin}.items():
        with tf.GradientTape() as tape, backprop_errors():
            value = loss(Y, network(X, training=False))
            kernels = [layer.kernel for layer in analysis.kernel_layers(network)]
            found[name] = tape.gradient(value, kernels)
    for ours, theirs in zip(found["rule"], found["twin"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_layers_of_one_name_are_told_apart():
    inputs = keras.Input((8, 4))
    attend = [layers.MultiHeadAttention(2, 3, rule="brsf", name=name) for name in ("one", "two")]
    h = attend[1](attend[0](inputs, inputs), inputs)
    model = keras.Model(inputs, h)
    x = RANDOM.normal(size=(5, 8, 4)).astype("float32")
    records = analysis.ErrorAngles(x, x, "mse")(model)
    assert len(records) == 8 and len({record["layer"] for record in records}) == 8
    assert all(np.isfinite(record["gradient_norm_ratio"]) for record in records)


@pytest.mark.parametrize("training", [True, False])
def test_states_of_recurrent_layers_stay(training):
    recurrent = layers.GRU(3, stateful=True, dropout=0.5, rule="feedback_alignment")
    model = keras.Sequential([keras.Input(batch_shape=(5, 4, 2)), recurrent, layers.Dense(2)])
    x, labels = RANDOM.normal(size=(5, 4, 2)).astype("float32"), np.zeros((5, 2), "float32")
    model(x)
    before, seed = recurrent.states[0].numpy(), recurrent.cell.seed_generator.state.numpy()
    assert before.any()
    analysis.ErrorAngles(x, labels, "mse", training)(model)
    np.testing.assert_array_equal(recurrent.states[0], before)
    np.testing.assert_array_equal(recurrent.cell.seed_generator.state, seed)


def test_layers_inside_of_loops_are_left_out():
    cell = keras.layers.RNN(keras.layers.SimpleRNNCell(3))
    model = keras.Sequential([keras.Input((4, 2)), cell, layers.Dense(2, rule="brsf", name="top")])
    x, labels = RANDOM.normal(size=(5, 4, 2)).astype("float32"), np.zeros((5, 2), "float32")
    (record,) = analysis.ErrorAngles(x, labels, "mse")(model)
    assert record["layer"] == "top" and record["error_angle"] == 0.0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    model = keras.Sequential([keras.Input((4,))])
    for units in (6, 5, 3):
        model.add(layers.Dense(units, rule="weight_mirror", dtype=policy))
    x, labels = (RANDOM.normal(size=(8, k)).astype("float32") for k in (4, 3))
    records = analysis.ErrorAngles(x, labels, "mse")(model)
    assert records[2]["error_angle"] == 0.0 and 1 < records[0]["error_angle"] < 179


MIRRORED = """
import keras, numpy as np
from tfcredit import layers
from tfcredit.callbacks import MeasureMonitor

x, y = np.random.RandomState(0).normal(size=(8, 6)).astype("float32"), np.arange(8) % 3
records = []
for scope in (tf.distribute.get_strategy(), strategy):
    with scope.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,))])
        model.add(layers.Dense(5, "tanh", rule="calibrated_mirror", seed=1))
        model.add(keras.layers.BatchNormalization(synchronized=True))
        model.add(layers.Dense(3, rule="calibrated_mirror", seed=2))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    monitor = MeasureMonitor(x, y, every=1)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
    records.append([v for r in monitor.records for v in r.values() if isinstance(v, float)])
np.testing.assert_allclose(*records, rtol=1e-3, atol=1e-2)
print(len(records[0]))
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_replicas_measure_as_one_device(two_cpus):
    assert int(two_cpus(MIRRORED)) == 3 * (2 * 3 + 2 * 8)


def test_samples_without_an_error_are_left_out_and_nan_is_kept():
    a = tf.constant([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0]])
    b = tf.constant([[1.0, 1.0], [3.0, 0.0], [1.0, 1.0]])
    products = inner_products(a, b).numpy()
    np.testing.assert_array_equal(products, [[1, 0, 8], [2, 9, 2], [1, 0, 4]])
    assert sample_angles(products) == pytest.approx([45.0, 0.0], abs=1e-5)
    model = chain()
    x, labels = RANDOM.normal(size=(4, 3)).astype("float32"), np.ones((4, 2), "float32")
    x[0] = 0.0  # has no projections
    first = analysis.ErrorAngles(x, labels, half_square)(model)[0]
    assert np.isfinite(first["projection_angle"])
    model.layers[1].feedback_kernel.assign(np.full((4, 5), np.nan))
    first, second, last = analysis.ErrorAngles(x, labels, half_square)(model)
    assert np.isnan([first["error_angle"], first["gradient_norm_ratio"]]).all()
    assert np.isnan(second["projection_angle"]) and np.isfinite(second["error_angle"])
    assert last["error_angle"] == 0.0


def test_what_cannot_be_measured_is_refused():
    x = np.zeros((4, 3), "float32")
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Flatten()], name="plain")
    with pytest.raises(UserError, match="no layer of the model 'plain' has a kernel"):
        analysis.ErrorAngles(x, x, "mse")(plain)
    with pytest.raises(UserError, match="no layer of the model 'plain' has a kernel"):
        analysis.spectra(plain)
    with pytest.raises(UserError, match="is compiled with none: give loss="):
        analysis.ErrorAngles(x, x)(chain())
    with pytest.raises(UserError, match=r"parts of \[3, 4\] samples"):
        analysis.ErrorAngles(x, x[:3], "mse")
    with pytest.raises(UserError, match=r"parts of \[0\] samples"):
        analysis.Observables(x[:0])


@pytest.mark.parametrize("rule", ["direct_feedback_alignment", "node_perturbation"])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.every(2)
def test_true_errors_where_layers_send_none(rule, wrap):
    """Backprop's gradients come out of a network whose rule does not send errors layer by layer."""
    keras.utils.set_random_seed(0)
    plain = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            keras.layers.Conv2D(3, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(6, "tanh"),
            keras.layers.Dense(3),
        ]
    )
    mine = convert.to_feedback(plain, rule, seed=1)
    x = tf.constant(RANDOM.normal(size=(4, 5, 5, 2)), tf.float32)
    labels = tf.constant(RANDOM.normal(size=(4, 3)), tf.float32)

    @wrap
    def both(model):
        sources = [v.value for v in model.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(half_square(labels, model(x, training=True)))
        routed = tape.gradient(loss, sources)
        with backprop_errors():
            return routed, tape.gradient(loss, sources)

    expected, _ = both(plain)
    routed, true = both(mine)
    for one, other in zip(true, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert not np.allclose(routed[0], expected[0], atol=1e-3)
    first, *_ = analysis.ErrorAngles(np.array(x), np.array(labels), half_square)(mine)
    assert 5 < first["gradient_angle"] < 175
