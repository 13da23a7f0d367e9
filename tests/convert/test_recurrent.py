"""Networks of recurrent layers become feedback layers and come back; files and measures too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, convert, layers, models
from tfcredit.errors import UserError

L = keras.layers
CELLS = {"SimpleRNN": L.SimpleRNNCell, "LSTM": L.LSTMCell, "GRU": L.GRUCell}


def network(kind="LSTM"):
    """Masked sequences, both directions, a stack of cells, a layer above."""
    keras.utils.set_random_seed(0)
    cell, layer = CELLS[kind], getattr(L, kind)
    stack = L.StackedRNNCells([cell(4, name="low"), cell(5, name="high")], name="cells")
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            L.Masking(),
            L.Bidirectional(layer(4, return_sequences=True, name="inner"), name="both"),
            L.RNN(stack, name="stack"),
            L.Dense(2, name="top"),
        ]
    )


def batch():
    x = np.random.default_rng(0).normal(size=(8, 6, 3)).astype("float32")
    x[::2, 4:] = 0.0
    return x, np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


PATHS = ["both/forward_inner", "both/backward_inner", "stack", "top"]
KERNELS = [
    *(f"both/{d}_inner/{{cell}}/{kernel}" for d in ("forward", "backward") for kernel in "wr"),
    *(f"stack/cells/{cell}/{kernel}" for cell in ("low", "high") for kernel in "wr"),
    "top",
]


def kernel_paths(kind):
    cell = {"SimpleRNN": "simple_rnn_cell", "LSTM": "lstm_cell", "GRU": "gru_cell"}[kind]
    words = {"w": "kernel", "r": "recurrent_kernel"}
    paths = [path.format(cell=cell) for path in KERNELS]
    return [path[:-1] + words[path[-1]] if path != "top" else path for path in paths]


@pytest.mark.every(12)
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("rule", ["info_alignment", "calibrated_mirror", "kolen_pollack", "usf"])
def test_a_network_converts_trains_saves_and_comes_back(kind, rule, tmp_path):
    plain, (x, y) = network(kind), batch()
    model = convert.to_feedback(plain, rule, seed=1)
    assert [record["layer"] for record in convert.report(model)] == PATHS
    assert {record["rule"] for record in convert.report(model)} == {rule}
    np.testing.assert_allclose(model(x), plain(x), rtol=0, atol=1e-6)
    assert [record["layer"] for record in analysis.alignment(model)] == kernel_paths(kind)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    before = [layer.feedback_kernel.numpy() for layer in analysis.feedback_layers(model)]
    assert len({values.tobytes() for values in before}) == len(before)
    model.fit(x, y, 4, shuffle=False, verbose=0)
    for layer, old in zip(analysis.feedback_layers(model), before, strict=True):
        assert (layer.feedback_kernel.numpy() != old).any()
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    for each in (model, loaded):  # the steps and the seeds of the noise too
        each.fit(x, y, 4, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    back = convert.to_backprop(model)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in plain.layers]
    assert type(back.get_layer("stack").cell.cells[1]) is CELLS[kind]
    np.testing.assert_allclose(back(x), model(x), rtol=0, atol=1e-6)


def test_rules_by_layer_and_by_kernel():
    model = convert.to_feedback(
        network(),
        layers={"top|.*backward.*": None, "both/.*": "usf", ".*": "info_alignment"},
        recurrent_rule="calibrated_mirror",
    )
    told = {record["layer"]: record["rule"] for record in convert.report(model)}
    other = "info_alignment, calibrated_mirror"
    expected = ["usf, calibrated_mirror", "backprop", other, "backprop"]
    assert told == dict(zip(PATHS, expected, strict=True))
    assert type(model.get_layer("both").backward_layer) is L.LSTM
    rule_of = {record["layer"]: record["rule"] for record in analysis.alignment(model)}
    assert rule_of["stack/cells/low/kernel"] == "info_alignment"
    assert rule_of["stack/cells/high/recurrent_kernel"] == "calibrated_mirror"
    half = convert.to_feedback(network(), "info_alignment", recurrent_rule="backprop")
    assert len(analysis.feedback_layers(half)) == 5  # four input kernels, and the dense layer


def test_directions_have_the_seeds_of_one_config():
    """Keras makes the second direction from the first one's config."""
    both = L.Bidirectional(layers.GRU(4, rule="calibrated_mirror", seed=1))
    both.build((None, 5, 3))
    cells = both.forward_layer.cell, both.backward_layer.cell
    for name in ("feedback_kernel", "recurrent_feedback_kernel"):
        one, other = (getattr(cell, name).numpy() for cell in cells)
        assert (one != other).any()
    assert cells[0].recurrent_product.seed != cells[1].recurrent_product.seed


@keras.saving.register_keras_serializable("tests")
class OwnCell(keras.layers.Layer):
    state_size = 4

    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 4), name="table")

    def call(self, x, states):
        new = keras.ops.tanh(x @ self.table + states[0])
        return new, [new]


def test_cells_that_are_not_known_stay_on_backprop():
    cells = [L.GRUCell(3, name="known"), OwnCell(name="own")]
    plain = keras.Sequential([keras.Input((5, 3)), L.RNN(cells, name="rnn"), L.Dense(2)])
    with pytest.warns(UserWarning, match="own: RNN holds a cell that has no feedback cell"):
        model = convert.to_feedback(plain, "usf")
    assert type(model.get_layer("rnn")) is L.RNN
    with pytest.raises(UserError, match="2 layers of .* can't be converted"):
        convert.to_feedback(plain, "usf", strict=True)
    np.testing.assert_array_equal(model(batch()[0]), plain(batch()[0]))


@keras.saving.register_keras_serializable("tests")
class CellOfLayers(keras.layers.Layer):
    state_size = 4

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(4, "tanh", name="inner")

    def build(self, input_shape):
        self.inner.build((None, input_shape[-1] + 4))

    def call(self, x, states):
        new = self.inner(keras.ops.concatenate([x, states[0]], -1))
        return new, [new]


def test_layers_frozen_in_cells_that_are_not_known_stay_frozen():
    plain = keras.Sequential([keras.Input((6, 3)), L.RNN(CellOfLayers(), name="rnn"), L.Dense(2)])
    plain.get_layer("rnn").cell.inner.trainable = False
    with pytest.warns(UserWarning, match="RNN holds a cell that has no feedback cell"):
        model = convert.to_feedback(plain, "usf")
    assert not model.get_layer("rnn").cell.inner.trainable
    np.testing.assert_array_equal(model(batch()[0]), plain(batch()[0]))


def test_feedback_cells_in_a_layer_of_keras_are_told_and_come_back():
    cells = [layers.GRUCell(4, rule="feedback_alignment", seed=1), L.LSTMCell(5)]
    model = keras.Sequential([keras.Input((6, 3)), L.RNN(cells, name="rnn"), L.Dense(2)])
    told = [record["rule"] for record in convert.report(model)]
    assert told == ["feedback_alignment", "backprop"]
    with pytest.raises(UserError, match="'rnn' has rule 'feedback_alignment' already"):
        convert.to_feedback(model, "usf")
    back = convert.to_backprop(model)
    assert [type(cell) for cell in back.get_layer("rnn").cell.cells] == [L.GRUCell, L.LSTMCell]
    np.testing.assert_allclose(back(batch()[0]), model(batch()[0]), rtol=0, atol=1e-6)


def test_recurrent_rules_are_refused_where_they_have_no_place():
    dense = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(UserError, match="recurrent_rule='usf' is given, but none of the chosen"):
        convert.to_feedback(dense, "usf", recurrent_rule="usf")
    for options in ({"rule": "direct_feedback_alignment"}, {"rule": "phase_free_mirror"}):
        with pytest.raises(UserError, match="SimpleRNN|LSTM"):
            convert.to_feedback(network(), **options)
    converted = convert.to_feedback(
        keras.Sequential([keras.Input((6, 3)), L.LSTM(4), L.Dense(4), L.Dense(2)]),
        layers={"dense.*": "direct_feedback_alignment", "lstm": "usf"},
    )
    assert converted.layers[-1].name == "direct_feedback"


def test_a_cell_in_a_layer_of_keras_only_routes():
    x = tf.constant(batch()[0])
    fixed = L.RNN(layers.GRUCell(4, rule="feedback_alignment", seed=1))
    ours = layers.RNN(layers.GRUCell(4, rule="feedback_alignment", seed=1))
    results = []
    for layer in (fixed, ours):
        layer.build(x.shape)
        layer.set_weights(fixed.get_weights())
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
        results.append([y, *tape.gradient(y, [v.value for v in layer.trainable_variables])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    learning = L.RNN(layers.LSTMCell(4, rule="kolen_pollack", name="mine"))
    learning(x)
    with pytest.raises(UserError, match="cell 'mine' has rule 'kolen_pollack', which learns once"):
        learning(x, training=True)


@pytest.mark.parametrize("rule", ["info_alignment", "calibrated_mirror"])
def test_every_step_of_a_time_distributed_layer_is_a_call(rule):
    inner = layers.LSTM(4, rule=rule)
    model = keras.Sequential([keras.Input((2, 6, 3)), L.TimeDistributed(inner), L.Flatten()])
    model.compile("sgd", "mse", jit_compile=False)
    before = inner.cell.recurrent_feedback_kernel.numpy()
    x = np.random.default_rng(0).normal(size=(8, 2, 6, 3))
    model.fit(x, np.zeros((8, 8)), verbose=0)
    assert (inner.cell.recurrent_feedback_kernel.numpy() != before).any()


@pytest.mark.slow
def test_angles_of_errors_are_zero_where_b_is_w():
    x, y = batch()
    model = convert.to_feedback(network(), "feedback_alignment", seed=1)
    measure = analysis.ErrorAngles(x, y, loss="mse")
    names = ["error_angle", "gradient_angle", "local_error_angle", "projection_angle"]
    for record in measure(model):
        # The last steps of a network that ends with its outputs have backprop's errors.
        assert record["local_error_angle"] > 30 and record["projection_angle"] > 30
    for layer in analysis.feedback_layers(model):
        layer.feedback_kernel.assign(layer.kernel)
    records = measure(model)
    assert [record["layer"] for record in records] == kernel_paths("LSTM")
    assert max(record[name] for record in records for name in names) < 0.1
