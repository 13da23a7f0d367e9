"""amp, null and sparse by products of kernels: exact, chosen by cost, and without large tensors."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.connection_cases import case, examples
from tests.test_primitives import assert_close, by_autodiff, regularisation, seen
from tfcredit import layers, rules
from tfcredit.connections import ConvConnection, DenseConnection, EinsumConnection
from tfcredit.primitives import Seen, chains, value_and_gradient

SUMS = [c for n in (1, 2, 3) for c in itertools.combinations(["amp", "null", "sparse"], n)]
FORMS = {(names, form) for names in SUMS for form in ("products", "inputs", "outputs")}
FORMS -= {(names, "outputs") for names in SUMS if "null" not in names}


@st.composite
def sized(draw):
    """Layers whose positions are samples, of sizes that every form is the cheapest for."""
    inputs, outputs = draw(st.sampled_from([(1, 6), (2, 5), (4, 4), (6, 2), (9, 1), (3, 2)]))
    batch = draw(st.sampled_from([1, 3, 20]))
    connection, shape, kernel = draw(
        st.sampled_from(
            [
                (DenseConnection(), (inputs,), (inputs, outputs)),
                (DenseConnection(), (2, inputs), (inputs, outputs)),
                (EinsumConnection("abc,cd->abd", 3), (2, inputs), (inputs, outputs)),
                (EinsumConnection("abc,cde->abde", 3), (2, inputs), (inputs, outputs, 2)),
                (EinsumConnection("abcd,cde->abe", 4), (2, inputs, 2), (inputs, 2, outputs)),
                (ConvConnection(), (3, 2, inputs), (1, 1, inputs, outputs)),
                (ConvConnection((2, 2), "same"), (3, 3, inputs), (1, 1, inputs, outputs)),
                (ConvConnection((2,)), (5, inputs), (1, inputs, outputs)),
                (ConvConnection((1, 1, 1)), (1, 2, 2, inputs), (1, 1, 1, inputs, outputs)),
            ]
        )
    )
    return case(connection, shape, kernel, batch=batch)


def form_of(made, names):
    x, y = made.connection.rows(made.x, made.y, made.kernel.shape)
    counted = chains.costs(names, x.shape[0], x.shape[1], y.shape[1])
    return min(counted, key=counted.get)


def test_every_form_is_exact():
    met = set()

    @examples(150)
    @given(sized(), st.sampled_from(SUMS), st.booleans())
    def check(made, names, extra):
        coefficients = {name: 0.3 + 0.4 * place for place, name in enumerate(names)}
        if extra:
            coefficients |= {"decay": 0.1, "null": tf.constant(0.7, tf.float32)}
        met.add((names, form_of(made, names)))
        numbers = {name: float(value) for name, value in coefficients.items()}
        value, gradient = value_and_gradient(coefficients, seen(made, y_is_product=True))
        expected = by_autodiff(lambda b: regularisation(made, numbers, b), made.feedback)
        tolerance = 1e-7 if extra else 1e-11  # of a float32 coefficient
        assert_close(value, expected[0], tolerance)
        assert_close(gradient, expected[1], tolerance)

    check()
    assert len(met) >= 0.8 * len(FORMS), FORMS - met


@pytest.mark.parametrize(
    "connection, shape, kernel",
    [
        (ConvConnection(), (4, 4, 2), (2, 2, 2, 3)),
        (ConvConnection(groups=2), (4, 4, 2), (1, 1, 1, 4)),
        (ConvConnection(padding=((1, 0), (0, 0))), (4, 4, 2), (1, 1, 2, 4)),
        (ConvConnection(data_format="channels_first"), (2, 4, 4), (1, 1, 2, 4)),
        (EinsumConnection("abc,bcd->abd", 3), (2, 3), (2, 3, 4)),
        (EinsumConnection("abc,dbc->adc", 3), (2, 3), (4, 2, 3)),
        (EinsumConnection("abc,dc->abd", 3), (2, 3), (4, 3)),
        (EinsumConnection("ab,c->acb", 2), (3,), (2,)),
    ],
)
def test_layers_without_rows_have_none(connection, shape, kernel):
    made = case(connection, shape, kernel)
    assert connection.rows(made.x, made.y, made.kernel.shape) is None


@examples(60)
@given(sized())
def test_rows_make_a_product_of_matrices(made):
    rows = made.connection.rows(made.x, made.y, made.kernel.shape)
    fields = made.connection.on_fields(made.kernel.shape)
    assert_close(fields.op(rows[0], made.kernel), rows[1].numpy(), 1e-12)
    back = fields.kernel(fields.matrix(made.kernel), made.kernel.shape)
    np.testing.assert_array_equal(back, made.kernel)


@pytest.mark.parametrize("count, inputs, outputs", [(1000, 8, 32), (1000, 32, 8), (4, 32, 32)])
@pytest.mark.parametrize("names", SUMS, ids="+".join)
def test_the_cheapest_form_has_the_fewest_multiplications(names, count, inputs, outputs):
    """Counted of the products in the graph of R's gradient."""
    w, b = tf.ones([inputs, outputs]), tf.ones([inputs, outputs])
    made = case(DenseConnection(), (inputs,), (inputs, outputs), "float32", count)

    @tf.function
    def gradient(x, y):
        coefficients = dict.fromkeys(names, 0.5)
        return value_and_gradient(coefficients, seen(made, x=x, y=y, w=w, b=b, y_is_product=True))

    graph = gradient.get_concrete_function(made.x, made.y).graph
    products = [op for op in graph.get_operations() if op.type == "MatMul"]
    taken = 0
    for op in products:
        rows, columns = op.outputs[0].shape
        taken += rows * columns * op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
    assert taken == min(chains.costs(names, count, inputs, outputs).values())


def test_a_form_that_there_is_not_is_not_counted():
    """Where y is more than op(x; W), null takes the cheaper of the other two forms."""
    made = case(DenseConnection(), (2,), (2, 8), batch=1000)
    assert form_of(made, ["null"]) == "inputs"

    @tf.function
    def gradient(x, y):
        return value_and_gradient({"null": 0.5}, seen(made, x=x, y=y))

    graph = gradient.get_concrete_function(made.x, made.y).graph
    assert sum(op.type == "MatMul" for op in graph.get_operations()) == 2  # opT and H
    counted = chains.costs(["null"], 1000, 2, 8)
    assert counted["inputs"] < counted["products"] < counted["outputs"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_of_half_precision_do_not_overflow(dtype):
    made = case(DenseConnection(), (2,), (2, 8), "float32", batch=2000)
    x, y = tf.cast(made.x * 30, dtype), tf.cast(made.y * 30, dtype)
    value, gradient = value_and_gradient(
        {"amp": 0.5, "null": 0.1}, seen(made, x=x, y=y, y_is_product=True)
    )
    whole = {"x": tf.cast(x, tf.float32), "y": tf.cast(y, tf.float32)}
    expected = value_and_gradient({"amp": 0.5, "null": 0.1}, seen(made, **whole))
    assert gradient.dtype == tf.float32 and np.isfinite(gradient).all()
    assert_close(gradient, expected[1], 0.03)


@pytest.mark.parametrize("rule", ["weight_mirror", "info_alignment", "activation_alignment"])
@pytest.mark.parametrize("units", [3, 40])
def test_a_layer_takes_them(rule, units):
    """A training call of a layer, of known and of unknown batch size."""
    layer = layers.Dense(units, rule=rule)
    model = keras.Sequential([keras.Input((12,)), layer])
    x = tf.random.stateless_normal([64, 12], [1, 2])
    b = tf.Variable(layer.feedback_kernel.value)

    def alone(b):
        made = rules.get(rule)
        state = layer.layer_state(x)
        sums = seen_of(layer, state.x, state.y, b)
        return value_and_gradient(made.coefficients, sums)

    for spec in ([64, 12], [None, 12]):

        @tf.function(input_signature=[tf.TensorSpec(spec)])
        def gradient(x):
            with tf.GradientTape() as tape:
                model(x, training=True)
                total = tf.add_n(model.losses)
            return total, tape.gradient(total, layer.feedback_kernel.value)

        found, expected = gradient(x), alone(b)
        assert_close(found[0], expected[0].numpy(), 1e-4)
        assert_close(found[1], expected[1].numpy(), 1e-5)


def seen_of(layer, x, y, b):
    """A layer as R sees it, whose y may be anything: then only products are exact."""
    return Seen(layer.connection, x, y, tf.convert_to_tensor(layer.kernel), b)
