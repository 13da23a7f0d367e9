"""Functional models of a class of the user's, layers that code makes, products with others' W."""

import functools

import keras
import numpy as np
import pytest

from tfcredit import analysis, convert, layers
from tfcredit.errors import UserError

L = keras.layers
X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class OwnStep(keras.Model):
    """Functional, with a training step of its own."""

    def train_step(self, data):
        return super().train_step(data) | {"own": 1.0}


def own_step():
    inputs = keras.Input((6,))
    return OwnStep(inputs, L.Dense(3)(L.Dense(5)(inputs)))


@keras.saving.register_keras_serializable("tests")
class Backbone(keras.Model):
    """Its constructor makes the functional graph, as those of keras_hub do."""

    def __init__(self, width=5, depth=2, **options):
        self.stem = L.Dense(width, name="stem")
        self.blocks = [L.Dense(width, "tanh", name=f"block{i}") for i in range(depth)]
        self.by_name = {"head": L.Dense(3, name="head")}
        inputs = keras.Input((6,))
        x = self.stem(inputs)
        for block in self.blocks:
            x = block(x) + x
        x = self.blocks[0](x)  # twice
        super().__init__(inputs, self.by_name["head"](x), **options)
        self.apply_head = functools.partial(keras.ops.multiply, 1.0)
        self.width, self.depth = width, depth
        self.held = {id(layer) for layer in self._flatten_layers()}

    def get_config(self):
        own = {"width": self.width, "depth": self.depth}
        return {"name": self.name, "trainable": self.trainable} | own

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def within():
    inputs = keras.Input((6,))
    return keras.Model(inputs, L.Dense(2, name="top")(Backbone(name="backbone")(inputs)))


@keras.saving.register_keras_serializable("tests")
class Hidden(L.Layer):
    """Holds a model, a function with a layer in it, and two layers of one name."""

    def __init__(self, **options):
        super().__init__(**options)
        self.part = keras.Sequential([L.Dense(6, name="dense")], name="part")
        self.twice = [L.Dense(6, name="same"), L.Dense(6, name="same")]
        inside = L.Dense(6, name="inside")
        self.inside, self.function = inside, lambda x: inside(x)

    def build(self, input_shape):
        for each in (self.part, *self.twice, self.inside):
            each.build(input_shape)

    def call(self, x):
        for each in (self.part, *self.twice, self.function):
            x = each(x)
        return x


def hidden():
    return keras.Sequential([keras.Input((6,)), Hidden(name="own"), L.Dense(2, name="top")])


@keras.saving.register_keras_serializable("tests")
class Attending(L.Layer):
    """Makes layers of several kernels in its own code."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention, self.conv = L.MultiHeadAttention(2, 3), L.SeparableConv1D(4, 2)

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)
        self.conv.build(input_shape)

    def call(self, x):
        return self.conv(self.attention(x, x))


def attending():
    return keras.Sequential([keras.Input((6,)), L.Reshape((3, 2)), Attending(), L.Flatten()])


NETWORKS = {
    "own step": (own_step, 2),
    "backbone": (Backbone, 4),
    "backbone in a model": (within, 5),
    "models and functions in a layer": (hidden, 5),
    "several kernels": (attending, 2),
}


def learned(model):
    return [record["layer"] for record in convert.report(model) if record["rule"] != "backprop"]


@pytest.mark.every(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_layers_are_exchanged_where_they_are(name):
    make, count = NETWORKS[name]
    plain = make()
    model = convert.to_feedback(plain, "feedback_alignment", seed=1, strict=True)
    assert type(model) is type(plain) and len(set(learned(model))) == count
    np.testing.assert_array_equal(model(X), plain(X))
    names = [[place["layer"] for place in convert.report(each)] for each in (plain, model)]
    assert names[0] == names[1]
    own = [w.path for w in model.weights if "feedback" not in w.path]
    assert len(set(own)) == len({w.path for w in plain.weights})
    assert sum("/" in path for path in own) == len(own)
    before = {id(v): np.array(v) for v in model.trainable_variables}
    model.compile("sgd", "mse")
    logs = model.fit(X, np.ones_like(model(X)), verbose=0).history
    assert ("own" in logs) == (name == "own step")
    assert all((np.array(v) != before[id(v)]).any() for v in model.trainable_variables)
    records = analysis.ErrorAngles(X, np.ones_like(model(X)))(model)
    assert any(record["error_angle"] > 1.0 for record in records)
    back = convert.to_backprop(model)
    assert learned(back) == [] and not analysis.feedback_layers(back)
    np.testing.assert_array_equal(back(X), model(X))


def test_attributes_of_a_backbone_are_the_layers_of_its_graph():
    model = convert.to_feedback(Backbone(), "feedback_alignment", seed=1)
    assert isinstance(model.stem, layers.Dense) and model.get_layer("stem") is model.stem
    assert all(isinstance(layer, layers.Dense) for layer in model.blocks)
    assert {id(layer) for layer in model._flatten_layers()} == model.held


def test_layers_of_one_name_have_kernels_of_their_own():
    model = convert.to_feedback(hidden(), "feedback_alignment", seed=1)
    first, second = model.layers[0].twice
    assert (np.array(first.feedback_kernel) != np.array(second.feedback_kernel)).any()
    assert "own/same_1" in learned(model)


@keras.saving.register_keras_serializable("tests")
class Made(keras.Model):
    """A model whose own code makes feedback layers."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = layers.Dense(5, rule="feedback_alignment", name="hidden")
        self.top = layers.Dense(2, rule="info_alignment", name="top")

    def call(self, x, training=None):
        return self.top(self.hidden(x))


def test_feedback_layers_that_code_makes_go_back():
    model = Made()
    expected = model(X)
    back = convert.to_backprop(model)
    assert type(back.hidden) is L.Dense and learned(back) == []
    np.testing.assert_array_equal(back(X), expected)


@keras.saving.register_keras_serializable("tests")
class Embed(L.Layer):
    """A table that is added, and a projection."""

    def __init__(self, multiplied=False, **options):
        super().__init__(**options)
        self.multiplied, self.dense = multiplied, L.Dense(6, name="dense")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.table = self.add_weight(shape=(6, 6), name="table")

    def call(self, x):
        y = self.dense(x)
        return y @ self.table if self.multiplied else y + self.table[:1]

    def get_config(self):
        return super().get_config() | {"multiplied": self.multiplied}


@pytest.mark.parametrize("multiplied", [False, True])
def test_a_weight_beside_a_layer_is_named_if_it_multiplies(multiplied):
    model = keras.Sequential([keras.Input((6,)), Embed(multiplied, name="own")])
    found = {r["layer"]: r for r in convert.report(model)}
    assert found["own/dense"]["parameters"] == 42
    assert ("own" in found) == multiplied
    if multiplied:
        assert found["own"]["parameters"] == 36
        with pytest.warns(UserWarning, match="own: no connection is known for Embed"):
            convert.to_feedback(model)
    else:
        convert.to_feedback(model, strict=True)


def reversible(reverse=True, tie=True, kind=L.ReversibleEmbedding):
    inputs = keras.Input((5,), dtype="int32")
    table = kind(9, 4, tie_weights=tie, name="table")
    x = L.Dense(4, name="dense")(table(inputs))
    return keras.Model(inputs, table(x, reverse=True) if reverse else x, name="model")


@keras.saving.register_keras_serializable("tests")
class OwnReversible(L.ReversibleEmbedding):
    pass


@keras.saving.register_keras_serializable("tests")
class Decoding(keras.Model):
    """A tied autoencoder."""

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder, self.middle = L.Dense(3, name="encoder"), L.Dense(3, name="middle")

    def call(self, x, training=None):
        return self.decode(self.middle(self.encoder(x)), self.encoder.kernel)

    def decode(self, x, kernel):
        return x @ keras.ops.transpose(kernel)


@keras.saving.register_keras_serializable("tests")
class Scaled(Decoding):
    def decode(self, x, kernel):
        return keras.ops.einsum("nj,ij->ni", x, 0.5 * kernel)


@keras.saving.register_keras_serializable("tests")
class Conditional(Decoding):
    def decode(self, x, kernel):
        transposed = keras.ops.transpose(kernel)
        return keras.ops.cond(
            keras.ops.sum(x) > 0, lambda: x @ transposed, lambda: 0.5 * (x @ transposed)
        )


@keras.saving.register_keras_serializable("tests")
class Held(Decoding):
    """Holds the kernel as an attribute of its own."""

    def call(self, x, training=None):
        y = self.middle(self.encoder(x))
        self.table = self.encoder.kernel
        return self.decode(y, self.table)


@keras.saving.register_keras_serializable("tests")
class TiedConvolution(L.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = L.Conv2D(3, 2, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, x):
        return keras.ops.conv_transpose(self.conv(x), self.conv.kernel, 1)


def called(cls):
    model = cls(name="model")
    model(X)
    return model


def tied_convolution():
    return keras.Sequential([keras.Input((4, 4, 2)), TiedConvolution(name="own")], name="model")


TIED = {
    "reversible embedding": (reversible, "table"),
    "untied, but without a feedback kernel": (lambda: reversible(tie=False), "table"),
    "of a class of the user's": (lambda: reversible(kind=OwnReversible), "table"),
    "subclassed": (lambda: called(Decoding), "model"),
    "scaled, by einsum": (lambda: called(Scaled), "model"),
    "under a condition": (lambda: called(Conditional), "model"),
    "held by the model": (lambda: called(Held), "model"),
    "convolution": (tied_convolution, "own"),
}


@pytest.mark.parametrize("name", TIED)
def test_products_with_kernels_elsewhere_are_named(name):
    make, place = TIED[name]
    model = make()
    with pytest.warns(UserWarning, match=f"{place}: it multiplies by .*errors travel back"):
        made = convert.to_feedback(model, "feedback_alignment", seed=1)
    assert "errors travel back" in convert.table(made)
    with pytest.raises(UserError, match="it multiplies by"):
        convert.to_feedback(model, strict=True)


@pytest.mark.filterwarnings("ignore:stay on backprop")  # which comes before
@pytest.mark.parametrize("convert_it", [convert.to_feedback, convert.to_backprop])
def test_a_variable_in_the_graph_is_refused(convert_it):
    inputs, dense = keras.Input((6,)), L.Dense(6, name="dense")
    model = keras.Model(inputs, keras.ops.matmul(dense(inputs), dense.kernel))
    for whole in (model, keras.Sequential([keras.Input((6,)), model])):
        with pytest.raises(UserError, match="'dense/kernel' of another layer"):
            convert_it(whole)


@keras.saving.register_keras_serializable("tests")
class Penalised(L.Layer):
    """Looks at a kernel, but multiplies nothing by it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = L.Dense(3, name="dense")

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        self.add_loss(keras.ops.sum(self.dense.kernel**2))
        return self.dense(x)


@keras.saving.register_keras_serializable("tests")
class Asking(L.Layer):
    """Attends with a query that it learns."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention = L.MultiHeadAttention(2, 3)

    def build(self, input_shape):
        self.query = self.add_weight(shape=(1, 2, 4), name="query")
        self.attention.build((None, 2, 4), input_shape)

    def call(self, x):
        return self.attention(keras.ops.tile(self.query, (keras.ops.shape(x)[0], 1, 1)), x)


@keras.saving.register_keras_serializable("tests")
class Branching(L.Layer):
    """Calls layers under a condition, behind another condition."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense, self.table = L.Dense(6), L.Embedding(3, 6)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.table.build((None,))

    def call(self, x):
        positive = keras.ops.sum(x) > 0
        x = keras.ops.cond(positive, lambda: 2.0 * x, lambda: x)
        return keras.ops.cond(
            positive, lambda: self.dense(x) + self.table(keras.ops.ones((1,), "int32")), lambda: x
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: reversible(reverse=False),
        lambda: keras.Sequential([keras.Input((6,)), Penalised()]),
        lambda: keras.Sequential(
            [keras.Input((6,)), L.SpectralNormalization(L.Dense(6)), Penalised()]
        ),
        lambda: keras.Sequential([keras.Input((5, 4)), Asking()]),
        lambda: keras.Sequential([keras.Input((6,)), Branching()]),
        hidden,
    ],
)
def test_no_product_is_made_up(make):
    convert.to_feedback(make(), "feedback_alignment", strict=True)


@pytest.mark.parametrize("choice", [5, [1, 2], b"dense", L.Dense, [L.Dense], 0.5])
def test_what_says_nothing_of_layers_is_no_choice(choice):
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    with pytest.raises(UserError, match="says nothing of layers: give a regular expression"):
        convert.to_feedback(model, layers=choice)


@keras.saving.register_keras_serializable("tests")
class OwnDense(layers.Dense):
    """A user's layer of the package's."""


@keras.saving.register_keras_serializable("tests")
class OwnSeparable(layers.SeparableConv1D):
    """A user's layer of several kernels."""


@pytest.mark.parametrize("rule", ["info_alignment", "direct_feedback_alignment"])
def test_own_feedback_layers_are_not_left_in_a_backprop_network(rule):
    model = keras.Sequential([keras.Input((4,)), OwnDense(3, rule=rule, name="own"), L.Dense(2)])
    with pytest.raises(UserError, match=r"'own' \(OwnDense\) of model .* would keep its rule"):
        convert.to_backprop(model)
    several = OwnSeparable(3, 2, rule="info_alignment", name="several")
    with pytest.raises(UserError, match=r"'several' \(OwnSeparable\)"):
        convert.to_backprop(keras.Sequential([keras.Input((4, 2)), several]))
    model = keras.Sequential([keras.Input((4,)), OwnDense(3, name="own"), L.Dense(2)])
    assert type(convert.to_backprop(model).layers[0]) is OwnDense
