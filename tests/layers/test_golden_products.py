"""The routed products and their gradients against the authors' own."""

import pytest
import tensorflow as tf

from tests.golden_data import arrays, assert_golden
from tfcredit.connections import ConvConnection, DenseConnection
from tfcredit.layers.routing import route_error

CASES = sorted({key.split("/")[0] for key in arrays("ops")})


def connection_of(case):
    if case.startswith("matmul"):
        return DenseConnection()
    _, _, stride, padding, _ = case.split("_")
    return ConvConnection((int(stride[1:]),) * 2, padding.lower())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_product_and_gradients_equal_the_authors(case, dtype):
    golden = {
        key.split("/")[1]: value.astype(dtype)
        for key, value in arrays("ops").items()
        if key.startswith(case + "/")
    }
    dense, tied = case.startswith("matmul"), case.endswith("tie1")
    connection = connection_of(case)
    x, w = tf.constant(golden["x"]), tf.constant(golden["w1"])
    b = tf.constant(golden["w2"].T if dense else golden["w2"])
    with tf.GradientTape() as tape:
        tape.watch([x, w, b])
        y = connection.op(x, w)
        y = route_error(connection, x, w, b, y, (lambda dy, dw: dw) if tied else None)
    dx, dw, db = tape.gradient(y, [x, w, b], output_gradients=tf.constant(golden["dy"]))
    assert_golden(y, golden["y"], to_scale=True)
    assert_golden(dx, golden["dx"], to_scale=True)
    assert_golden(dw, golden["dw1"], to_scale=True)
    expected = golden["dw2"].T if dense else golden["dw2"]
    if tied:
        assert_golden(db, expected, to_scale=True)
    else:
        assert db is None and not expected.any()
