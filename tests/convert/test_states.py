"""What Keras moves by methods of layers, not as weights, goes along in both directions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import convert
from tfcredit.errors import UserError

L = keras.layers
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(250, 40, (64, 5)).astype("float32")
WORDS = np.array(["one two", "two three three", "four"])


@keras.saving.register_keras_serializable("tests")
class Table(L.Layer):
    """Keeps a table that is no variable, an adapted layer and a dense one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = None
        self.scale, self.dense = L.Normalization(name="scale"), L.Dense(4, name="dense")

    def build(self, input_shape):
        self.scale.build(input_shape)
        self.dense.build(input_shape)
        self.weight = self.add_weight(shape=(input_shape[-1],), name="weight")

    def call(self, x):
        return self.dense(self.scale(x) * self.weight + (0.0 if self.table is None else self.table))

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["table"] = self.table

    def load_own_variables(self, store):
        self.weight.assign(store["0"])
        self.table = np.asarray(store["table"][()])


@keras.saving.register_keras_serializable("tests")
class Words(L.Layer):
    """A table of TensorFlow's, saved as an asset."""

    def __init__(self, **options):
        super().__init__(**options)
        self.set(["none"])

    def set(self, words):
        self.words = list(words)
        keys = tf.lookup.KeyValueTensorInitializer(words, tf.range(1, 1 + len(words)))
        self.table = tf.lookup.StaticHashTable(keys, 0)

    def call(self, x):
        return tf.one_hot(self.table.lookup(x), 5)

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape, 5), "float32")

    def save_assets(self, folder):
        with open(f"{folder}/words", "w") as file:
            file.write("\n".join(self.words))

    def load_assets(self, folder):
        with open(f"{folder}/words") as file:
            self.set(file.read().splitlines())


@keras.saving.register_keras_serializable("tests")
class Centred(L.Layer):
    """Computes a constant from a variable, as layers with `adapt` do."""

    def build(self, input_shape):
        self.sum = self.add_weight(shape=input_shape[1:], trainable=False, name="sum")
        self.finalize_state()

    def finalize_state(self):
        self.mean = np.array(self.sum) / 2

    def call(self, x):
        return x - self.mean


def adapted(layer, data):
    layer.adapt(data)
    return layer


def normalization():
    return [adapted(L.Normalization(), TABLE)], TABLE


def inverted():
    return [L.Normalization(mean=3.0, variance=2.0, invert=True)], TABLE


def images():
    x = RANDOM.uniform(0, 255, (6, 4, 4, 3)).astype("float32")
    return [adapted(L.Normalization(), x), L.Flatten()], x


def nested():
    inner = [keras.Input((5,)), adapted(L.Normalization(), TABLE), L.Dense(4)]
    return [keras.Sequential(inner, name="inner")], TABLE


def in_own_code():
    layer = Table()
    layer.build((None, 5))
    layer.scale.adapt(TABLE)
    layer.table = np.arange(5, dtype="float32")
    return [layer], TABLE


def asset():
    layer = Words()
    layer.set(["one", "two", "three"])
    return [layer], tf.constant(["two", "three", "none"])


def finalized():
    layer = Centred()
    layer.build((None, 5))
    layer.sum.assign(np.arange(5))
    layer.finalize_state()
    return [layer], TABLE


def text(**options):
    def make():
        return [adapted(L.TextVectorization(**options), WORDS), L.Rescaling(0.5)], tf.constant(
            ["two four", "five"]
        )

    return make


def integers():
    layer = adapted(L.IntegerLookup(output_mode="tf_idf"), np.array([[5], [7], [5], [9]]))
    return [layer], tf.constant([[5], [9], [1]], tf.int64)


def bins():
    layer = adapted(L.Discretization(num_bins=4, output_mode="one_hot"), TABLE[:, :1])
    return [layer], TABLE[:9, :1]


STATES = {
    "normalization": normalization,
    "given and inverted": inverted,
    "images": images,
    "nested": nested,
    "in a layer of the user's": in_own_code,
    "an asset": asset,
    "finalize_state": finalized,
    "words": text(output_mode="tf_idf"),
    "sequences": text(output_sequence_length=3),
    "integers": integers,
    "bins": bins,
}


@pytest.mark.parametrize("make", STATES.values(), ids=STATES)
def test_states_go_along(make):
    parts, x = make()
    x = tf.convert_to_tensor(x)
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), *parts, L.Dense(2)])
    expected = model(x)
    made = convert.to_feedback(model, "feedback_alignment", seed=1)
    np.testing.assert_array_equal(made(x), expected)
    np.testing.assert_array_equal(convert.to_backprop(made)(x), expected)
    np.testing.assert_array_equal(convert.to_backprop(model)(x), expected)


def attention():
    inputs = keras.Input((4, 5))
    return keras.Model(inputs, L.MultiHeadAttention(2, 4, dropout=0.5)(inputs, inputs))


def noisy():
    parts = [L.Dropout(0.5), L.GaussianNoise(1.0), L.Dense(30), L.AlphaDropout(0.3)]
    return keras.Sequential([keras.Input((4, 5)), *parts])


@pytest.mark.parametrize("make", [attention, noisy])
def test_random_generators_go_along(make):
    model, x = make(), RANDOM.normal(size=(3, 4, 5)).astype("float32")
    model(x, training=True)  # not at their start
    made = convert.to_feedback(model, "feedback_alignment", seed=1)
    np.testing.assert_array_equal(made(x, training=True), model(x, training=True))


def test_frozen_layers_stay_frozen():
    parts, _ = in_own_code()
    model = keras.Sequential([keras.Input((5,)), *parts, L.Dense(2)])
    parts[0].dense.trainable = False
    made = convert.to_feedback(model, "feedback_alignment", seed=1)
    assert not made.layers[0].dense.trainable
    assert len(made.trainable_variables) == len(model.trainable_variables)


@keras.saving.register_keras_serializable("tests")
class Broken(Centred):
    def load_own_variables(self, store):
        raise KeyError("sums")


def test_methods_that_fail_are_told():
    model = keras.Sequential([keras.Input((5,)), Broken(name="own"), L.Dense(2)])
    with pytest.raises(UserError, match="layer 'own' .* can't load what it saves .*sums"):
        convert.to_feedback(model)


@keras.saving.register_keras_serializable("tests")
class Unused(keras.Model):
    """Holds a layer that it never calls."""

    def __init__(self, **options):
        super().__init__(**options)
        self.used, self.unused = keras.layers.Dense(3), keras.layers.Dense(2)

    def build(self, input_shape):
        self.used.build(input_shape)

    def call(self, x, training=None):
        return self.used(x)


def test_layers_that_are_never_called_go_through_files(tmp_path):
    x = np.ones((2, 4), "float32")
    plain = Unused()
    plain(x)
    model = convert.to_feedback(plain, "info_alignment", seed=0)
    model.save_weights(tmp_path / "of.weights.h5")
    other = convert.to_feedback(plain, "info_alignment", seed=1)
    other.load_weights(tmp_path / "of.weights.h5")
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(convert.to_backprop(model)(x), plain(x))
