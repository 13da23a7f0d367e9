"""Closed forms of R against its definition, automatic differentiation and finite differences."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.connection_cases import case, cases, examples
from tfcredit.connections import Connection, ConvConnection, DenseConnection
from tfcredit.primitives import (
    PRIMITIVES,
    Seen,
    amp,
    decay,
    error,
    null,
    self_,
    value_and_gradient,
)
from tfcredit.rules.objective import AlteredSeen, objective

NAMES = ["decay", "amp", "null", "sparse", "self"]
SUMS = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 2), min_size=1)
FUSED = [c for n in range(1, 6) for c in itertools.combinations(NAMES, n)]


def regularisation(made, coefficients, feedback):
    """R by the table's definition."""
    n = float(made.x.shape[0])
    product = made.connection.op(made.x, feedback)
    reconstruction = made.connection.op_transpose(made.y, feedback, tf.shape(made.x))
    values = {
        "decay": tf.reduce_sum(feedback**2) / 2,
        "amp": -tf.reduce_sum(made.y * product) / n,
        "null": tf.reduce_sum(reconstruction**2) / (2 * n),
        "sparse": tf.reduce_sum(product**2) / (2 * n),
        "self": -tf.reduce_sum(feedback * made.kernel),
    }
    return sum(coefficient * values[name] for name, coefficient in coefficients.items())


def by_autodiff(value_of, feedback):
    with tf.GradientTape() as tape:
        tape.watch(feedback)
        value = value_of(feedback)
    return value, tape.gradient(value, feedback)


def by_finite_differences(value_of, feedback):
    """Central differences; R is quadratic, so any step is exact but for rounding."""
    gradient = np.zeros(feedback.shape)
    for index in np.ndindex(*feedback.shape):
        step = np.zeros(feedback.shape)
        step[index] = 0.5
        gradient[index] = value_of(feedback + step) - value_of(feedback - step)
    return gradient


def assert_close(actual, expected, tolerance=1e-11):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def closed_form(made, coefficients):
    return value_and_gradient(coefficients, seen(made))


def seen(made, cls=Seen, **changes):
    """What R sees of a case."""
    tensors = {"x": made.x, "y": made.y, "w": made.kernel, "b": made.feedback}
    return cls(made.connection, **(tensors | changes))


@examples(30)
@given(cases(), SUMS)
def test_closed_form_equals_automatic_differentiation(made, coefficients):
    value, gradient = closed_form(made, coefficients)
    expected = by_autodiff(lambda b: regularisation(made, coefficients, b), made.feedback)
    assert_close(value, expected[0])
    assert_close(gradient, expected[1])
    # The differentiable R that options without a closed form fall back on is the same R.
    differentiable = by_autodiff(
        lambda b: objective(coefficients, seen(made, AlteredSeen, b=b)), made.feedback
    )
    assert_close(differentiable[0], expected[0])
    assert_close(differentiable[1], expected[1])


@pytest.mark.every(4)
@pytest.mark.parametrize("names", FUSED, ids="+".join)
@pytest.mark.parametrize(
    "connection, shape, kernel_shape",
    [
        (DenseConnection(), (3,), (3, 2)),
        (ConvConnection((2, 1), "same"), (3, 3, 2), (2, 2, 2, 2)),
    ],
    ids=["dense", "conv"],
)
def test_closed_form_equals_finite_differences(connection, shape, kernel_shape, names):
    made = case(connection, shape, kernel_shape, batch=3)
    coefficients = {name: 0.3 + 0.2 * i for i, name in enumerate(names)}
    value, gradient = closed_form(made, coefficients)
    value_of = lambda b: regularisation(made, coefficients, b).numpy()  # noqa: E731
    assert_close(value, value_of(made.feedback))
    assert_close(gradient, by_finite_differences(value_of, made.feedback), 1e-10)


@examples(20)
@given(cases(("float32",)), SUMS)
def test_closed_form_in_float32(made, coefficients):
    value, gradient = closed_form(made, coefficients)
    expected = by_autodiff(lambda b: regularisation(made, coefficients, b), made.feedback)
    assert gradient.dtype == value.dtype == tf.float32
    assert_close(value, expected[0], 3e-5)  # differences of larger terms
    assert_close(gradient, expected[1], 1e-5)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_activity_gives_results_in_the_kernels_dtype(half):
    full = case(DenseConnection(), (6,), (6, 4), "float32", batch=4)
    x, y = tf.cast(full.x, half), tf.cast(full.y, half)
    coefficients = dict.fromkeys(NAMES, 0.5)
    value, gradient = value_and_gradient(coefficients, seen(full, x=x, y=y))
    assert value.dtype == gradient.dtype == tf.float32
    expected = closed_form(full, coefficients)
    assert_close(value, expected[0], 0.03)
    assert_close(gradient, expected[1], 0.03)


@pytest.mark.parametrize("name", NAMES)
def test_each_primitive_is_complete_in_itself(name):
    """Its own value and gradient, which sums fuse, are the definition's."""
    made = case(ConvConnection((2, 1), "same"), (4, 4, 2), (2, 2, 2, 3), batch=3)
    expected = by_autodiff(lambda b: regularisation(made, {name: 1.0}, b), made.feedback)
    assert_close(PRIMITIVES[name].value(seen(made)), expected[0])
    assert_close(PRIMITIVES[name].gradient(seen(made)), expected[1])


@pytest.mark.parametrize("name", NAMES)
def test_value_is_eulers(name):
    """R is homogeneous in B of the stated degree, so <B, dR/dB> = degree * R."""
    made = case(ConvConnection(), (4, 4, 2), (2, 2, 2, 3), batch=3)
    value, gradient = closed_form(made, {name: 0.7})
    assert_close(tf.reduce_sum(made.feedback * gradient), PRIMITIVES[name].degree * value)


@pytest.mark.parametrize(
    "names", [["amp", "null"], ["amp", "sparse"], ["null", "sparse"], NAMES], ids="+".join
)
def test_value_of_activity_smaller_than_the_kernel(names):
    """<B, dR/dB> is taken of activity where that is known to be smaller than B."""
    made = case(DenseConnection(), (6,), (6, 4), batch=1)
    coefficients = dict.fromkeys(names, 0.7)

    @tf.function(input_signature=[tf.TensorSpec([None, n], tf.float64) for n in (6, 4)])
    def of_unknown_size(x, y):
        return value_and_gradient(coefficients, seen(made, x=x, y=y))

    value, gradient = closed_form(made, coefficients)
    expected = of_unknown_size(made.x, made.y)
    assert_close(value, expected[0])
    assert_close(gradient, expected[1])
    assert_close(value, regularisation(made, coefficients, made.feedback))


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-11), ("float32", 3e-5)])
@pytest.mark.parametrize(
    "connection, shape, kernel_shape",
    [
        (DenseConnection(), (6,), (6, 4)),
        (ConvConnection((2, 1), "same"), (6, 5, 2), (3, 3, 2, 3)),
    ],
    ids=["dense", "conv"],
)
def test_activity_that_is_the_product_is_compared_in_the_kernels(
    connection, shape, kernel_shape, dtype, tolerance
):
    """op(x; B) - r y is op(x; B - r W): the same R but for rounding, and dR/dB reads no y."""
    made = case(connection, shape, kernel_shape, dtype, batch=3)

    def of(y, **options):
        coefficients = {"amp": 0.5, "sparse": 0.2, "decay": 0.1}
        return value_and_gradient(coefficients, seen(made, y=y, **options))

    y = connection.op(made.x, made.kernel)
    value, gradient = of(y, y_is_product=True)
    assert_close(value, of(y)[0], tolerance)
    assert_close(gradient, of(y)[1], tolerance)
    assert_close(of(y + 1, y_is_product=True)[1], gradient, 0)


@pytest.mark.parametrize("names", FUSED, ids="+".join)
def test_zero_coefficients_give_zero(names):
    made = case(DenseConnection(), (3,), (3, 2))
    value, gradient = closed_form(made, dict.fromkeys(names, 0.0))
    assert value == 0 and not np.any(gradient)


def test_error_is_left_to_the_backward_pass():
    made = case(DenseConnection(), (3,), (3, 2))
    with_error = closed_form(made, {"decay": 0.5, "error": 2.0})
    for actual, expected in zip(with_error, closed_form(made, {"decay": 0.5}), strict=True):
        assert_close(actual, expected, 0)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reads_what_is_stated(name):
    """A gradient changes with each tensor that `reads` names, and with no other."""
    made = case(DenseConnection(), (3,), (3, 2))
    tensors = {"x": made.x, "y": made.y, "W": made.kernel, "B": made.feedback}

    def gradient(x, y, w, b):
        return value_and_gradient({name: 1.0}, Seen(made.connection, x, y, w, b))[1].numpy()

    before = gradient(*tensors.values())
    changed = {
        key
        for key in tensors
        if (gradient(*(tensors | {key: tensors[key] + 1}).values()) != before).any()
    }
    assert changed == PRIMITIVES[name].reads


class Counting(Connection):
    """Counts the products that another connection is asked for."""

    def __init__(self, inner):
        self.inner, self.counts = inner, {"op": 0, "op_transpose": 0, "hebbian": 0}

    def op(self, *arguments):
        self.counts["op"] += 1
        return self.inner.op(*arguments)

    def op_transpose(self, *arguments):
        self.counts["op_transpose"] += 1
        return self.inner.op_transpose(*arguments)

    def hebbian(self, *arguments):
        self.counts["hebbian"] += 1
        return self.inner.hebbian(*arguments)

    def axes(self, kernel_shape):
        return self.inner.axes(kernel_shape)


COSTS = {
    ("amp", "decay"): (0, 0, 1),
    ("amp", "decay", "null"): (0, 1, 1),
    ("self", "decay"): (0, 0, 0),
    ("amp", "sparse"): (1, 0, 1),
    ("amp", "null", "sparse", "decay", "self"): (1, 1, 2),
}


@pytest.mark.parametrize("names", COSTS, ids="+".join)
def test_number_of_products(names):
    made = case(DenseConnection(), (3,), (3, 2))
    made.connection = Counting(made.connection)
    closed_form(made, dict.fromkeys(names, 1.0))
    assert tuple(made.connection.counts.values()) == COSTS[names]


def test_sums_are_written_as_sums():
    assert 0.5 * amp + 2.0 * null == {"amp": 0.5, "null": 2.0}
    assert amp + decay + amp * 0.5 == {"amp": 1.5, "decay": 1.0}
    assert self_ + 3 * error == {"self": 1.0, "error": 3}
