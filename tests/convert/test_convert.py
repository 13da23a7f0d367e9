"""Any Keras network to feedback layers and back."""

import keras
import numpy as np
import pytest

from tests.conformance.descriptors import RULES
from tests.crossing import crossed
from tfcredit import convert, layers, models, rules
from tfcredit.errors import UserError
from tfcredit.primitives import amp, decay

L = keras.layers


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """A custom layer that makes layers in its own code, in attributes, lists and mappings."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.norm = L.Dense(6), L.LayerNormalization()
        self.more, self.last = [L.Dense(5, "relu")], {"last": L.Dense(8)}

    def build(self, input_shape):
        for each in (self.first, self.norm, *self.more, self.last["last"]):
            each.build(input_shape)
            input_shape = each.compute_output_shape(input_shape)

    def call(self, x):
        return self.last["last"](self.more[0](self.norm(self.first(x))))


@keras.saving.register_keras_serializable("tests")
class Projection(keras.layers.Layer):
    """A custom layer with a kernel that nobody knows the products of."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 4), name="table")

    def call(self, x):
        return x @ self.table


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, units=3, **options):
        super().__init__(**options)
        self.units = units
        self.hidden, self.top = L.Dense(7, "tanh"), L.Dense(units)

    def call(self, x, training=None):
        return self.top(self.hidden(x))

    def get_config(self):
        return super().get_config() | {"units": self.units}


def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            L.Conv2D(4, 3, activation="relu"),
            L.BatchNormalization(),
            L.Flatten(),
            L.Dense(3, name="top"),
        ]
    )


def branched():
    """Two inputs and outputs, a shared layer, a nested model, a custom layer."""
    left, right = keras.Input((8,)), keras.Input((8,))
    shared = L.Dense(8, "tanh", name="shared")
    nested = keras.Sequential([keras.Input((8,)), L.Dense(4, name="inner")], name="nested")
    x = nested(Block(name="block")(L.Add()([shared(left), shared(right)])))
    return keras.Model([left, right], [L.Dense(2, name="one")(x), L.Dense(3, name="two")(x)])


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8), "float32"))
    return model


NETWORKS = {"sequential": sequential, "branched": branched, "subclassed": subclassed}


def batch(model):
    shapes = [(5, 8)] if not hasattr(model, "inputs") or not model.inputs else None
    shapes = shapes or [(5, *each.shape[1:]) for each in model.inputs]
    random = np.random.RandomState(0)
    return [random.randn(*shape).astype("float32") for shape in shapes]


def predictions(model, inputs):
    given = inputs if len(inputs) > 1 else inputs[0]
    outputs = model.predict(given, verbose=0)
    return outputs if isinstance(outputs, list) else [outputs]


def assert_same(left, right):
    inputs = batch(left)
    for a, b in zip(predictions(left, inputs), predictions(right, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def learned(model):
    return [r["layer"] for r in convert.report(model) if r["rule"] != "backprop"]


QUICK = ["info_alignment", "feedback_alignment", "calibrated_mirror", "kolen_pollack", "usf"]
# Rules that need the network are refused, or wire it, by tests/models.
FEEDBACK = [rule for rule in RULES if rules.get(RULES[rule]).has_feedback_kernel]


@pytest.mark.every(4)
@pytest.mark.parametrize(
    "name, rule", crossed(NETWORKS, FEEDBACK, quick=lambda name, rule: rule in QUICK)
)
def test_a_network_converts_trains_and_comes_back(name, rule):
    plain = NETWORKS[name]()
    model = convert.to_feedback(plain, RULES[rule], seed=1)
    assert len(learned(model)) == {"sequential": 2, "branched": 7, "subclassed": 2}[name]
    assert_same(plain, model)
    inputs = batch(model)
    before = [value.copy() for value in model.get_weights()]
    model.compile("sgd", "mse")
    targets = [np.ones_like(each) for each in predictions(model, inputs)]
    given = inputs if len(inputs) > 1 else inputs[0]
    model.fit(given, targets if len(targets) > 1 else targets[0], verbose=0)
    after = model.get_weights()
    assert all(np.isfinite(value).all() for value in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    back = convert.to_backprop(model)
    assert learned(back) == []
    assert [type(each) for each in back.layers] == [type(each) for each in plain.layers]
    assert_same(model, back)


def test_the_seed_decides_the_feedback_kernels():
    plain = sequential()
    kernels = [
        convert.to_feedback(plain, seed=seed).get_layer("top").feedback_kernel.numpy()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def test_rules_by_pattern_and_function():
    plain = branched()
    names = {r["layer"] for r in convert.report(plain)}
    some = convert.to_feedback(plain, "usf", layers=["nested/.*", "one"])
    assert set(learned(some)) == {"nested/inner", "one"}
    each = {"block/.*": "weight_mirror(amp=0.5)", "two": None, ".*": "feedback_alignment"}
    found = {r["layer"]: r["rule"] for r in convert.report(convert.to_feedback(plain, layers=each))}
    assert [rule for path, rule in found.items() if path.startswith("block")] == 3 * [
        "weight_mirror"
    ]
    assert found["two"] == "backprop" and found["shared"] == "feedback_alignment"
    own = convert.to_feedback(
        plain, "usf", layers=lambda layer: "brsf" if layer.name == "one" else True
    )
    assert len(learned(own)) == len(names)


def test_rules_by_layer_as_models_take_them():
    rule = {"one": "weight_mirror(amp=0.5)", "two": 0.1 * amp + decay}
    model = convert.to_feedback(branched(), rule)
    assert set(learned(model)) == {"one", "two"}
    rules = {record["layer"]: record["spelled"] for record in convert.report(model)}
    assert rules["one"] == "weight_mirror(amp=0.5)" and rules["two"] == "0.1*amp + 1.0*decay"
    assert "weight_mirror(amp=0.5)" in convert.table(model)
    assert len(learned(convert.to_feedback(branched(), 0.1 * amp + decay))) > 2  # no mapping
    deep = convert.to_feedback(branched(), "tracking_mirror")
    angle = deep.get_layer("one").rule.angle  # that of the network's depth
    assert f"tracking_mirror(angle={angle:.4g})" in convert.table(deep)
    with pytest.raises(UserError, match="maps layers to rules, but layers='one' chooses"):
        convert.to_feedback(branched(), rule, layers="one")


def test_layers_without_a_feedback_layer_are_told():
    inputs = keras.Input((4, 8))
    x = L.TimeDistributed(L.Dense(8, name="timed"), name="steps")(inputs)
    x = L.Dense(8, name="top")(Projection(name="own")(x))
    x = L.ConvLSTM1D(3, 1, name="lstm")(L.Reshape((4, 4, 2))(x))
    plain = keras.Model(inputs, x)
    with pytest.warns(UserWarning, match="own: no connection is known for Projection"):
        model = convert.to_feedback(plain)
    assert learned(model) == ["steps/timed", "top"]
    text = convert.table(model)
    for word in (
        "ConvLSTM1D",
        "no connection is known for Projection",
        "lstm/conv_lstm_cell",
        "info_alignment",
    ):
        assert word in text
    assert_same(plain, model)
    with pytest.raises(UserError, match="2 layers of .* can't be converted"):
        convert.to_feedback(plain, strict=True)


def test_weights_of_layers_inside_custom_layers_are_kept_in_files(tmp_path):
    model = convert.to_feedback(branched(), seed=1)
    model.save_weights(tmp_path / "of.weights.h5")
    other = convert.to_feedback(branched(), seed=2)
    other.load_weights(tmp_path / "of.weights.h5")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_converted_network_is_saved_and_loaded(tmp_path):
    model = convert.to_feedback(sequential(), "info_alignment")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert learned(loaded) == learned(model)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_of_tfcredit_with_backprop_takes_another_rule():
    plain = models.get("fc", 10, (28, 28, 1), rule="backprop")
    assert len(learned(convert.to_feedback(plain))) == len(convert.report(plain))


class Decoder(keras.layers.Layer):
    """The transposed kernel of another layer, as in a tied autoencoder."""

    def __init__(self, encoder):
        super().__init__()
        self.kernel = encoder.kernel

    def call(self, x):
        return x @ keras.ops.transpose(self.kernel)


def sharing():
    inputs, encoder = keras.Input((4,)), L.Dense(3)
    code = encoder(inputs)
    return keras.Model(inputs, Decoder(encoder)(code))


MISTAKES = {
    "no model": (lambda: L.Dense(3), {}, "a keras.Model was expected"),
    "unbuilt": (lambda: keras.Sequential([L.Dense(3)]), {}, "is not built"),
    "nothing to convert": (
        lambda: keras.Sequential([keras.Input((3,)), L.Activation("relu")]),
        {},
        "no layer that can get a feedback kernel",
    ),
    "no match": (sequential, {"layers": "tpo"}, "pattern 'tpo' fits no layer"),
    "nothing chosen": (sequential, {"layers": lambda layer: False}, "chose none"),
    "unknown rule": (sequential, {"rule": "info_aligment"}, "did you mean 'info_alignment'"),
    "twice": (lambda: convert.to_feedback(sequential()), {}, "has rule 'info_alignment' already"),
    "shared kernel": (sharing, {}, "share the variable"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    make, options, told = MISTAKES[name]
    with pytest.raises(UserError, match=told):
        convert.to_feedback(make(), **options)


class Rigid(keras.Model):
    """A model without a config."""

    def __init__(self, layer):
        super().__init__()
        self.inner = layer

    def call(self, x, training=None):
        return self.inner(x)


class Untold(Subclassed):
    """Its layers never learn that they are trained."""

    def call(self, x):
        return self.top(self.hidden(x))


def test_a_call_without_training_is_refused():
    model = Untold()
    model(np.zeros((1, 8), "float32"))
    with pytest.raises(UserError, match="takes no `training`"):
        convert.to_feedback(model)


@pytest.mark.parametrize("convert_it", [convert.to_feedback, convert.to_backprop])
def test_a_model_without_a_config_is_refused(convert_it):
    model = Rigid(layers.Dense(3))
    model(np.zeros((1, 8), "float32"))
    with pytest.raises(UserError, match="can't be made from its config"):
        convert_it(model)
