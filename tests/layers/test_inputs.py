"""Inputs of every type that the Keras layer takes give its output, or one refusal."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES, WITHOUT_B
from tfcredit import layers
from tfcredit.errors import UserError

ONE_OF_EACH = ["backprop", "direct_feedback_alignment", "info_alignment", "phase_free_mirror"]
MAKE = {
    "dense": lambda kinds, **kw: kinds.Dense(4, **kw),
    "dense without bias": lambda kinds, **kw: kinds.Dense(4, use_bias=False, **kw),
    "einsum": lambda kinds, **kw: kinds.EinsumDense("ab,bc->ac", 4, bias_axes="c", **kw),
}
WHOLE = np.random.default_rng(0).integers(0, 2, (6, 5))
TYPES = {
    **{dtype: (lambda dtype=dtype: tf.cast(WHOLE, dtype)) for dtype in ("uint8", "int8", "bool")},
    **{dtype: (lambda dtype=dtype: tf.cast(WHOLE, dtype)) for dtype in ("int32", "uint16")},
    **{dtype: (lambda dtype=dtype: tf.cast(WHOLE, dtype)) for dtype in ("int64", "float64")},
    "float16": lambda: tf.cast(WHOLE, "float16"),
    "sparse": lambda: tf.sparse.from_dense(tf.cast(WHOLE, "float32")),
    "sparse int64": lambda: tf.sparse.from_dense(WHOLE),
    "ragged": lambda: tf.RaggedTensor.from_tensor(tf.cast(WHOLE, "float32")),
}
DENSE_ONLY = ("sparse", "sparse int64")


def pair(name, rule, **options):
    """Keras' layer and ours, of the same weights."""
    keras.utils.set_random_seed(1)
    theirs = MAKE[name](keras.layers, **options)
    keras.utils.set_random_seed(1)
    return theirs, MAKE[name](layers, rule=RULES[rule], seed=1, **options)


@pytest.mark.every(4)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("rule", ONE_OF_EACH)
@pytest.mark.parametrize("name", MAKE)
def test_every_type_of_input(name, rule, kind):
    if name == "einsum" and kind in DENSE_ONLY:
        pytest.skip("Keras' EinsumDense takes no sparse tensors")
    x = TYPES[kind]()
    theirs, ours = pair(name, rule)
    expected, found = theirs(x), ours(x)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ours(x, training=True) ** 2) + sum(ours.losses)
    gradient = tf.convert_to_tensor(tape.gradient(total, ours.kernel.value))
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("rule", ["backprop", "info_alignment"])
@pytest.mark.parametrize("kind", ["int64", "bool", "float64", "sparse int64"])
def test_policies(kind, rule, policy):
    theirs, ours = pair("dense", rule, dtype=policy)
    x = TYPES[kind]()
    expected, found = theirs(x), ours(x)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(tf.cast(found, "float64"), tf.cast(expected, "float64"), 2e-2, 2e-2)


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_bfloat16"])
@pytest.mark.parametrize("rule", ["info_alignment", "kolen_pollack", "low_dimensional_feedback"])
def test_added_losses_join_the_loss_of_fit_under_every_policy(rule, policy):
    x = np.random.default_rng(1).normal(size=(6, 5)).astype("float32")
    rows = [layers.Dense(4, rule=rule, dtype=policy, seed=i) for i in (1, 2)]
    model = keras.Sequential([keras.Input((5,)), *rows])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    before = rows[0].feedback_product
    model.fit(x, np.arange(6) % 4, verbose=0)
    assert np.abs(np.asarray(rows[0].feedback_product - before, "float32")).max() > 0


@pytest.mark.every(5)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in WITHOUT_B])
def test_whole_numbers_under_every_rule(rule):
    theirs, ours = pair("dense", rule)
    np.testing.assert_allclose(ours(WHOLE), theirs(WHOLE), rtol=1e-5, atol=1e-6)
    before = ours.kernel.numpy()
    model = keras.Sequential([keras.Input((5,), dtype="int64"), ours])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(WHOLE, np.ones((6, 4), "float32"), verbose=0)
    assert np.isfinite(ours.kernel.numpy()).all() and (ours.kernel.numpy() != before).any()


def test_wider_inputs_where_the_layer_does_not_cast():
    theirs, ours = pair("dense", "feedback_alignment", autocast=False)
    x = tf.cast(WHOLE, "float64")
    assert ours(x).dtype == theirs(x).dtype == tf.float64


def test_complex_numbers_are_refused_when_the_network_is_built():
    with pytest.raises(UserError, match="takes real inputs, not complex64"):
        layers.Dense(4, rule="info_alignment")(keras.Input((5,), dtype="complex64"))


def test_sparse_networks():
    inputs = keras.Input((5,), sparse=True)
    model = keras.Model(inputs, layers.Dense(4, rule="weight_mirror", seed=1)(inputs))
    x = tf.sparse.from_dense(tf.cast(WHOLE, "float32"))
    np.testing.assert_allclose(model(x), model.layers[-1](tf.sparse.to_dense(x)), rtol=1e-6)
