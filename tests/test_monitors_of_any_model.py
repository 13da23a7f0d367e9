"""Monitors and measures on every kind of model that trains: nested, custom, unbuilt, of heads."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfcredit import analysis, convert, layers
from tfcredit.callbacks import AlignmentMonitor, MeasureMonitor
from tfcredit.errors import UserError

L = keras.layers
RANDOM = np.random.default_rng(0)


def draw(*shape):
    return RANDOM.normal(size=shape).astype("float32")


class Block(L.Layer):
    """A layer of the user's with two inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = layers.Dense(5, "relu", rule="info_alignment", name="first")
        self.rest = [layers.Dense(6, rule="feedback_alignment", name="second")]

    def build(self, input_shape):
        self.first.build(input_shape)
        self.rest[0].build((*input_shape[:-1], 5))

    def call(self, x):
        return self.rest[0](self.first(x))


class Subclassed(keras.Model):
    def __init__(self, block=False, **options):
        super().__init__(**options)
        self.hidden = Block() if block else layers.Dense(6, "relu", rule="info_alignment")
        self.top = layers.Dense(2, rule="info_alignment", name="top")

    def call(self, x, training=None):
        return self.top(self.hidden(x))


def nested():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(6, "relu")])
    return converted(keras.Sequential([keras.Input((6,)), inner, L.Dense(2)]))


def converted(model):
    return convert.to_feedback(model, "info_alignment", seed=1)


def attention():
    inputs = keras.Input((4, 6))
    return converted(keras.Model(inputs, L.Dense(2)(L.MultiHeadAttention(2, 4)(inputs, inputs))))


def separable():
    parts = [L.SeparableConv2D(3, 3), L.Flatten(), L.Dense(2)]
    return converted(keras.Sequential([keras.Input((6, 6, 2)), *parts]))


def shared():
    inputs, dense = keras.Input((6,)), L.Dense(6, "relu")
    return converted(keras.Model(inputs, L.Dense(2)(dense(dense(inputs)))))


def unbuilt():
    rule = {"rule": "info_alignment"}
    return keras.Sequential([layers.Dense(6, "relu", **rule), layers.Dense(2, **rule)])


def activated():
    parts = [L.Dense(6, activation=L.LeakyReLU()), L.Dense(2, activation=L.PReLU())]
    return converted(keras.Sequential([keras.Input((6,)), *parts]))


def named_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((3,), name="b")
    both = L.Concatenate()([L.Dense(4)(a), L.Dense(4)(b)])
    return converted(keras.Model({"a": a, "b": b}, L.Dense(2)(both)))


def two_heads():
    inputs = keras.Input((6,))
    x = L.Dense(6, "relu")(inputs)
    return converted(keras.Model(inputs, [L.Dense(2, name="one")(x), L.Dense(1, name="two")(x)]))


def named_heads():
    inputs = keras.Input((6,))
    x = L.Dense(6, "relu")(inputs)
    return converted(keras.Model(inputs, {"one": L.Dense(2)(x), "two": L.Dense(1)(x)}))


def half():
    dense = L.Dense(6, "relu", dtype="mixed_bfloat16")
    return converted(keras.Sequential([keras.Input((6,)), dense, L.Dense(2, dtype="float32")]))


def recurrent():
    both = L.Bidirectional(L.GRU(3, return_sequences=True))
    parts = [both, L.RNN([L.LSTMCell(3), L.SimpleRNNCell(4)]), L.Dense(2)]
    return converted(keras.Sequential([keras.Input((4, 3)), *parts]))


ONE, TWO = ("mse", draw(8, 2)), draw(8, 1)
WHOLE = RANDOM.integers(0, 2, (8, 6))
TYPES = {
    **{dtype: tf.cast(WHOLE, dtype) for dtype in ("uint8", "bool", "int64", "float64")},
    "sparse": tf.sparse.from_dense(tf.cast(WHOLE, "float32")),
    "sparse int64": tf.sparse.from_dense(WHOLE),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.every(2)
def test_measures_are_the_same_whatever_the_type_of_the_inputs(kind):
    x = TYPES[kind]
    rule, y = {"rule": "info_alignment"}, draw(8, 2)
    parts = [layers.Dense(5, "relu", **rule), layers.Dense(2, **rule)]
    inputs = keras.Input((6,), dtype=x.dtype.name, sparse=isinstance(x, tf.SparseTensor))
    model = keras.Sequential([inputs, *parts])
    same = keras.Sequential([keras.Input((6,)), *parts])
    found = []
    for each, given in ((model, x), (same, tf.cast(WHOLE, "float32"))):
        each.compile("sgd", "mse")
        measures = [analysis.ErrorAngles(given, y), analysis.Observables(given)]
        records = [record for measure in measures for record in measure(each)]
        records += analysis.safe_rates(each, given)
        found.append([v for r in records for v in r.values() if isinstance(v, float)])
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)


# model, inputs, loss, labels, options of compile
MODELS = {
    "nested": (nested, draw(8, 6), *ONE),
    "attention": (attention, draw(8, 4, 6), "mse", draw(8, 4, 2)),
    "separable": (separable, draw(8, 6, 6, 2), *ONE),
    "a layer called twice": (shared, draw(8, 6), *ONE),
    "unbuilt": (unbuilt, draw(8, 6), *ONE),
    "subclassed, unbuilt": (Subclassed, draw(8, 6), *ONE),
    "a block in a subclass": (lambda: Subclassed(True), draw(8, 6), *ONE),
    "layers as activations": (activated, draw(8, 6), *ONE),
    "named inputs": (named_inputs, {"a": draw(8, 6), "b": draw(8, 3)}, *ONE),
    "two heads": (two_heads, draw(8, 6), ["mse", "mae"], [ONE[1], TWO]),
    "two heads, one loss": (two_heads, draw(8, 6), "mse", [ONE[1], TWO]),
    "two heads by name": (two_heads, draw(8, 6), {"one": "mse", "two": "mae"}, [ONE[1], TWO]),
    "named heads": (named_heads, draw(8, 6), "mse", {"one": ONE[1], "two": TWO}),
    "half precision": (half, draw(8, 6), *ONE),
    "recurrent": (recurrent, draw(8, 4, 3), *ONE),
    "eager": (nested, draw(8, 6), *ONE, {"run_eagerly": True}),
    "weighted heads": (
        two_heads,
        draw(8, 6),
        ["mse", "mse"],
        [ONE[1], TWO],
        {"loss_weights": [1.0, 9.0]},
    ),
}


def tags(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {tag: [e.step for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]}


@pytest.mark.every(10)
@pytest.mark.filterwarnings("ignore:stay on backprop")
@pytest.mark.parametrize("name", MODELS)
def test_monitors_watch_any_model(name, tmp_path, monkeypatch):
    monkeypatch.setattr(MeasureMonitor, "_draw", lambda self: None)  # slow, and tested elsewhere
    make, x, loss, y, *options = MODELS[name]
    model = make()
    model.compile("sgd", loss, **(options[0] if options else {}))
    alignment = AlignmentMonitor(tmp_path / "a", probe=x, histograms=True)
    measures = MeasureMonitor(x, y, tmp_path / "m", every=1)
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[alignment, measures])
    written = tags(tmp_path / "a") | tags(tmp_path / "m")
    assert all(len(steps) == len(set(steps)) for steps in written.values())
    found = [record["layer"] for record in analysis.alignment(model)]
    assert len(set(found)) == len(found) >= 2
    for layer in found:
        for tag in (f"angle/{layer}", f"error_angle/{layer}", f"W/{layer}", f"B/{layer}"):
            assert tag in written
    aligned = [r["layer"] for r in analysis.alignment(model) if r["rule"] == "info_alignment"]
    assert {tag[2:] for tag in written if tag.startswith("R/")} >= set(aligned)
    assert sorted({record["step"] for record in measures.records}) == [0, 1, 2]


@pytest.mark.parametrize("name", ["unbuilt", "subclassed, unbuilt", "two heads"])
def test_measures_of_a_model_that_nobody_has_called(name):
    make, x, loss, y = MODELS[name]
    model = make()
    model.compile("sgd", loss)
    before = len(analysis.ErrorAngles(x, y)(model))
    assert before == len(analysis.Observables(x)(model)) == len(analysis.alignment(model))
    assert len(analysis.spectra(model)) and len(analysis.ErrorSpectra(x, y)(model))


@pytest.mark.slow
def test_heads_count_as_the_loss_weighs_them():
    model, x, y = two_heads(), draw(8, 6), [draw(8, 2), draw(8, 1)]
    ratios = []
    for weights in ([1.0, 0.0], None, [0.0, 1.0]):
        model.compile("sgd", ["mse", "mse"], loss_weights=weights)
        records = {r["layer"]: r for r in analysis.ErrorAngles(x, y)(model)}
        ratios.append([records[head]["error_norm_ratio"] for head in ("one", "two")])
    assert np.isnan(ratios[0][1]) and ratios[0][0] == 1.0
    assert ratios[1] == [1.0, 1.0]
    assert np.isnan(ratios[2][0]) and ratios[2][1] == 1.0


def test_values_on_a_probe_are_those_of_the_rule(tmp_path):
    model, x = shared(), draw(8, 6)
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    monitor = AlignmentMonitor(tmp_path, probe=x)
    monitor.set_model(model)
    monitor.on_train_begin()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    layer = model.layers[1]
    inputs = [tf.constant(x), layer(x)]
    expected = sum(float(layer.rule.loss(layer.layer_state(each))) for each in inputs)
    (event,) = events.Tensors(f"R/{layer.name}")
    assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(expected, rel=1e-5)


def part(name):
    return keras.Sequential([keras.Input((6,)), L.Dense(6, "tanh", name="dense")], name=name)


def alike():
    """Encoder and decoder of equal inner names, and layers that are called as series are."""
    inputs = keras.Input((6,))
    x = part("decoder")(part("encoder")(inputs))
    return converted(keras.Model(inputs, L.Dense(6, name="heat_map")(L.Dense(6, name="mean")(x))))


@pytest.mark.slow
def test_layers_of_equal_names_are_told_apart(tmp_path):
    model, x = alike(), draw(8, 6)
    model.compile("sgd", "mse")
    monitors = [AlignmentMonitor(tmp_path / "a", x, True), MeasureMonitor(x, x, tmp_path / "m")]
    model.fit(x, x, epochs=2, verbose=0, callbacks=monitors)
    paths = ["encoder/dense", "decoder/dense", "mean", "heat_map"]
    tables = [convert.report(model), analysis.alignment(model), analysis.ErrorAngles(x, x)(model)]
    tables += [analysis.Observables(x)(model), analysis.effective_ranks(analysis.spectra(model))]
    tables += [analysis.safe_rates(model, x)]
    for records in tables:
        assert [record["layer"] for record in records] == paths
    for folder in ("a", "m"):
        written = tags(tmp_path / folder)
        assert all(len(steps) == len(set(steps)) for steps in written.values())
        assert {"angle/encoder/dense", "angle/decoder/dense", "angle/mean_layer"} <= set(written)


def test_the_series_of_equal_names_is_their_mean(tmp_path):
    model, x = alike(), draw(8, 6)
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0, callbacks=[AlignmentMonitor(tmp_path)])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    last = {
        tag: float(tf.make_ndarray(events.Tensors(f"angle/{tag}")[-1].tensor_proto))
        for tag in ("dense", "encoder/dense", "decoder/dense")
    }
    assert last["dense"] == pytest.approx(
        (last["encoder/dense"] + last["decoder/dense"]) / 2, rel=1e-5
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_inner_layers_come_in_call_order(depth):
    parts = [layers.Dense(6, rule="info_alignment", name=f"c{i}") for i in range(4)]
    model = keras.Sequential([keras.Input((6,)), *parts], name="inside")
    for level in range(depth):
        model = keras.Sequential([keras.Input((6,)), model], name=f"level{level}")
    inputs = keras.Input((6,))
    head = layers.Dense(2, rule="info_alignment", name="head")
    model = keras.Model(inputs, head(model(inputs)))
    model.compile("sgd", "mse")
    for records in (analysis.alignment(model), analysis.ErrorAngles(draw(4, 6), draw(4, 2))(model)):
        assert [r["layer"].split("/")[-1] for r in records] == ["c0", "c1", "c2", "c3", "head"]
    assert analysis.kernel_layers(model) == [*parts, head]


def _dataset():
    return tf.data.Dataset.from_tensor_slices((draw(8, 6), draw(8, 2))).batch(4)


BATCHES = {
    "a data set": (_dataset, lambda: None, "x is a .*next\\(iter\\(dataset\\)\\)"),
    "a generator": (lambda: (i for i in range(3)), lambda: None, "x is a generator"),
    "no array": (lambda: object(), lambda: draw(8, 2), "x is a object"),
    "no labels": (lambda: draw(8, 6), lambda: None, "needs the labels"),
    "a data set as labels": (lambda: draw(8, 6), _dataset, "y is a"),
    "fewer labels": (lambda: draw(8, 6), lambda: draw(7, 2), "parts of"),
    "nothing": (lambda: draw(0, 6), lambda: draw(0, 2), "one sample at least"),
    "one number": (lambda: 3.0, lambda: 4.0, "one sample at least"),
}


@pytest.mark.parametrize("x, y, told", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("made", [MeasureMonitor, analysis.ErrorAngles, analysis.ErrorSpectra])
def test_what_is_no_batch_is_told(made, x, y, told):
    with pytest.raises(UserError, match=told):
        made(x(), y())


def test_measures_without_a_loss_need_no_labels():
    model, x = nested(), draw(8, 6)
    model.compile("sgd", "mse")
    monitor = MeasureMonitor(x, None, measures=[analysis.alignment, analysis.Observables(x)])
    model.fit(x, draw(8, 2), verbose=0, callbacks=[monitor])
    assert monitor.records


LABELS = {
    "integers": ("categorical_crossentropy", np.arange(8) % 2),
    "a column": ("categorical_crossentropy", np.arange(8)[:, None] % 2),
    "other classes": ("categorical_crossentropy", np.eye(3)[np.arange(8) % 3]),
    "an object of the loss": (keras.losses.CategoricalCrossentropy(), np.arange(8) % 2),
    "one-hot": (keras.losses.SparseCategoricalCrossentropy(), np.eye(2)[np.arange(8) % 2]),
}


@pytest.mark.parametrize("loss, y", LABELS.values(), ids=LABELS)
def test_labels_that_the_loss_does_not_take_are_told(loss, y):
    model = nested()
    model.compile("sgd", loss)
    with pytest.raises(UserError, match=r"the loss takes no labels of shape .*\(8,"):
        analysis.ErrorAngles(draw(8, 6), y)(model)
