"""The three products of each connection: what they compute, and that they are adjoint."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.descriptors import LAYERS, layer
from tests.connection_cases import case, cases, conv_settings, convolve, examples
from tests.pages import ROOT
from tfcredit.connections import (
    ConvConnection,
    DenseConnection,
    DepthwiseConnection,
    EinsumConnection,
    TransposedConnection,
)

TOLERANCE = {"float64": 1e-12, "float32": 2e-6}


def assert_adjoint(case, tolerance):
    """<op(x; W), v> = <x, opT(v; W)> = <W, H(x, v)> for a v that has nothing to do with y."""
    x, w = case.x, case.kernel
    v = tf.cast(np.random.default_rng(1).normal(size=case.y.shape), x.dtype)
    down = case.connection.op_transpose(v, w, tf.shape(x))
    product = case.connection.hebbian(x, v, w.shape)
    assert down.shape == x.shape and product.shape == w.shape
    assert down.dtype == product.dtype == x.dtype
    pairs = [(case.y, v), (x, down), (w, product)]
    inner = [np.vdot(np.float64(left), np.float64(right)) for left, right in pairs]
    scale = max(np.linalg.norm(np.float64(a)) * np.linalg.norm(np.float64(b)) for a, b in pairs)
    np.testing.assert_allclose(inner[1:], inner[0], rtol=0, atol=tolerance * scale)


@examples(150)
@given(cases(("float64", "float32")))
def test_products_are_adjoint(case):
    assert_adjoint(case, TOLERANCE[case.x.dtype.name])


@examples(40)
@given(conv_settings(), st.integers(1, 2))
def test_convolution_equals_its_definition(setting, batch):
    arguments, shape, kernel_shape = setting
    made = case(ConvConnection(*arguments), shape, kernel_shape, batch=batch)
    expected = convolve(made.x.numpy(), made.kernel.numpy(), *arguments)
    np.testing.assert_allclose(made.y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strides, dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolution_equals_keras(padding, strides, dilation, groups, dtype):
    connection = ConvConnection((strides,) * 2, padding, (dilation,) * 2, groups=groups)
    made = case(connection, (7, 6, 4), (3, 2, 4 // groups, 6), dtype)
    expected = keras.ops.conv(made.x, made.kernel, strides, padding, "channels_last", dilation)
    np.testing.assert_allclose(made.y, expected, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("taps, strides", [((7, 6), 2), ((9, 11), 3)])
@pytest.mark.parametrize("size", [(12, 13), (17, 11)])
@pytest.mark.parametrize("padding", ["same", "valid", ((2, 3), (1, 0))])
def test_errors_of_images_by_phases(padding, size, taps, strides, dtype):
    """Few channels, many taps and a stride: opT is one convolution of all phases of the image."""
    made = case(ConvConnection((strides,) * 2, padding), (*size, 3), (*taps, 3, 4), dtype)
    assert_adjoint(made, TOLERANCE[dtype])
    v = tf.random.normal(made.y.shape, dtype=dtype)

    def down(x_spec):
        @tf.function(input_signature=[x_spec, tf.TensorSpec(v.shape, v.dtype)])
        def errors(x, v):
            with tf.GradientTape() as tape:
                tape.watch(v)
                x = made.connection.op_transpose(v, made.kernel, tf.shape(x))
                total = tf.reduce_sum(tf.sin(x))
            return x, tape.gradient(total, v)

        kinds = {op.type for op in errors.get_concrete_function().graph.get_operations()}
        assert ("DepthToSpace" in kinds) == x_spec.shape.is_fully_defined()
        return errors(made.x, v)

    # A shape that is not known takes TensorFlow's product, which is another one.
    known, unknown = (tf.TensorSpec(shape, dtype) for shape in (made.x.shape, [None] * 4))
    for found, expected in zip(down(known), down(unknown), strict=True):
        tolerance = 10 * TOLERANCE[dtype] * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


WITHOUT_ONEDNN = """
from tests.test_connections import ConvConnection, DepthwiseConnection, assert_adjoint, case
from tensorflow.python.util import _pywrap_util_port

assert not _pywrap_util_port.IsMklEnabled()
for dtype, tolerance in (("float32", 2e-6), ("bfloat16", 2e-2)):
    for connection, shape, kernel_shape in (
        (ConvConnection((1, 1), groups=2), (7, 6, 4), (3, 2, 2, 6)),
        (ConvConnection((1, 1), dilation_rate=(2, 2)), (7, 6, 4), (3, 2, 4, 6)),
        (ConvConnection((2, 2), data_format="channels_first"), (4, 7, 6), (3, 2, 4, 6)),
        (ConvConnection((2,), groups=2), (7, 4), (3, 2, 6)),
        (DepthwiseConnection((2, 2)), (7, 6, 4), (3, 2, 4, 3)),
    ):
        assert_adjoint(case(connection, shape, kernel_shape, dtype), tolerance)
print("adjoint")
"""


@pytest.mark.slow
def test_products_where_tensorflow_has_onednn_off():
    """As by default on CPUs without AVX-512 VNNI or its like, which have no kernels for these."""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_ONEDNN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "adjoint\n", done.stderr[-3000:]


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5)])
def test_dense_product_acts_on_the_last_axis(shape):
    made = case(DenseConnection(), shape, (5, 4))
    assert made.y.shape == (2, *shape[:-1], 4)
    np.testing.assert_allclose(made.y, made.x.numpy() @ made.kernel.numpy(), atol=1e-12)
    assert_adjoint(made, 1e-12)


# TensorFlow's own filter gradient ends the process here (float32 and bfloat16, batch 1).
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", [28, 5])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("strides", [(2, 2), (3, 2), (1, 2)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_strided_pointwise_convolution(padding, strides, batch, size, dtype):
    connection = ConvConnection(strides, padding)
    made = case(connection, (size, size, 8), (1, 1, 8, 16), dtype, batch)
    pixels = made.x[:, :: strides[0], :: strides[1]].numpy()
    expected = np.float64(pixels) @ np.float64(made.kernel[0, 0])
    tolerance = {**TOLERANCE, "bfloat16": 1e-2, "float16": 2e-3}[dtype]
    np.testing.assert_allclose(np.float64(made.y), expected, atol=10 * tolerance, rtol=tolerance)
    assert_adjoint(made, tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "connection, shape, kernel_shape",
    [
        (ConvConnection((2, 2), "same"), (28, 28, 8), (1, 1, 8, 16)),
        (ConvConnection((2, 2), ((0, 1), (1, 0))), (7, 6, 4), (1, 1, 4, 3)),
        (ConvConnection((3,), "valid"), (8, 4), (1, 4, 3)),
        (DepthwiseConnection((2, 2)), (7, 7, 4), (1, 1, 4, 2)),
    ],
    ids=["same", "padded", "1-d", "depthwise"],
)
def test_gradients_of_strided_pointwise_products(connection, shape, kernel_shape, dtype):
    """Of a batch of 1, in which TensorFlow's own may end the process; twice differentiable."""
    made = case(connection, shape, kernel_shape, dtype, batch=1)
    x, w = made.x, made.kernel
    v = tf.cast(np.random.default_rng(1).normal(size=made.y.shape), x.dtype)
    with tf.GradientTape(persistent=True) as second, tf.GradientTape(persistent=True) as tape:
        for watching in (tape, second):
            watching.watch([x, w, v])
        up = connection.op(x, w)
        down = connection.op_transpose(v, w, tf.shape(x))
        with second.stop_recording(), tape.stop_recording():
            expected = connection.hebbian(x, v, w.shape)
        dx, dw = tape.gradient(up, [x, w], v)
        dv, again = tape.gradient(down, [v, w], x)
    tolerance = TOLERANCE[dtype] * 100
    np.testing.assert_allclose(dx, down, atol=tolerance)
    np.testing.assert_allclose(dv, up, atol=tolerance)
    np.testing.assert_allclose(dw, expected, atol=tolerance)
    np.testing.assert_allclose(again, expected, atol=tolerance)
    # dx = opT(v; W) is linear in W, dv = op(x; W) too.
    np.testing.assert_allclose(second.gradient(dx, w, x), expected, atol=tolerance)
    np.testing.assert_allclose(second.gradient(dv, w, v), expected, atol=tolerance)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_products_know_sizes_only_at_run_time(data_format):
    connection = ConvConnection((2, 2), "same", data_format=data_format)
    shape = (3, 5, 4) if data_format == "channels_first" else (5, 4, 3)
    for kernel_shape in [(1, 1, 3, 2), (3, 2, 3, 2)]:
        made = case(connection, shape, kernel_shape)
        assert_adjoint(made, 1e-12)
        unknown = [None if i != connection._places[3] else 3 for i in range(4)]

        def products(x, kernel):
            y = connection.op(x, kernel)
            down = connection.op_transpose(y, kernel, tf.shape(x))
            return y, down, connection.hebbian(x, y, kernel.shape)

        specs = [tf.TensorSpec(unknown, tf.float64), tf.TensorSpec(kernel_shape, tf.float64)]
        traced = tf.function(products, input_signature=specs)
        tensors = made.x, made.kernel
        for actual, expected in zip(traced(*tensors), products(*tensors), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-12)


@examples(60)
@given(cases())
def test_axes_are_those_that_op_sums_over(case):
    """With ones for x and W, an output sums its field where every tap meets the input."""
    connection, shape = case.connection, case.kernel.shape.as_list()
    counts = connection.op(tf.ones_like(case.x), tf.ones_like(case.kernel)).numpy()
    axes = connection.axes(shape)
    assert np.prod(axes.shape) == np.prod(shape)
    inputs = np.prod([axes.shape[axis] for axis in axes.inputs])
    assert (counts % inputs == 0).all()
    assert counts.max() <= inputs * np.prod([axes.shape[axis] for axis in axes.taps])
    kinds = [*axes.taps, *axes.inputs, *axes.outputs]
    assert len(kinds) == len(set(kinds)) and set(kinds) <= set(range(len(axes.shape)))


@examples(60)
@given(cases())
def test_products_of_one_position_are_adjoint(case):
    connection, shape = case.connection, case.kernel.shape.as_list()
    fields, fan_in = connection.on_fields(shape), connection.axes(shape).fan_in
    x = tf.random.stateless_normal((5, fan_in), [0, 1], dtype=tf.float64)
    y = fields.op(x, case.kernel)
    dy = tf.random.stateless_normal(y.shape, [2, 3], dtype=tf.float64)
    dw = fields.hebbian(x, dy, shape)
    dx = fields.op_transpose(dy, case.kernel, tf.shape(x))
    np.testing.assert_allclose(tf.reduce_sum(y * dy), tf.reduce_sum(dx * x), atol=1e-9)
    assert dw.shape == case.kernel.shape and y.shape[1] * x.shape[1] == tf.size(dw)
    np.testing.assert_allclose(tf.reduce_sum(y * dy), tf.reduce_sum(dw * case.kernel), atol=1e-9)


def fields(x, groups=1):
    """Noise samples as images of one receptive field, alike in all groups of channels."""
    return tf.reshape(tf.tile(x, [1, 1, groups]), [len(x), 2, 3, -1])


@pytest.mark.parametrize(
    "connection, kernel_shape, image",
    [
        (DenseConnection(), (6, 4), lambda x: tf.reshape(x, [len(x), -1])),
        (ConvConnection(), (2, 3, 5, 4), fields),
        (ConvConnection(groups=2), (2, 3, 5, 4), lambda x: fields(x, 2)),
        (DepthwiseConnection(), (2, 3, 4, 2), lambda x: fields(x, 4)),
        (
            TransposedConnection(ConvConnection()),
            (2, 3, 4, 5),
            lambda x: tf.reshape(x, [len(x), 1, 1, -1]),
        ),
        (EinsumConnection("abc,cde->abde", 3), (6, 2, 4), lambda x: tf.reshape(x, [len(x), 1, -1])),
    ],
    ids=["dense", "conv", "groups", "depthwise", "transposed", "einsum"],
)
def test_the_product_of_one_position_is_op_on_one(connection, kernel_shape, image):
    axes = connection.axes(kernel_shape)
    size = axes.fan_in
    taps = 6 if len(kernel_shape) == 4 and len(axes.field) > 1 else 1
    kernel = tf.random.stateless_normal(kernel_shape, [0, 1], dtype=tf.float64)
    x = tf.random.stateless_normal((3, taps, size // taps), [2, 3], dtype=tf.float64)
    expected = connection.op(image(x), kernel)
    found = connection.on_fields(kernel_shape).op(tf.reshape(x, [3, size]), kernel)
    np.testing.assert_allclose(found, tf.reshape(expected, [3, -1]), atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_fans_are_those_of_keras_initializers(name):
    """The variance of a Glorot kernel that Keras draws is 2 / (fan-in + fan-out)."""
    made, _ = layer(name, "feedback_alignment")
    fan_in, fan_out = made.connection.axes(made.kernel.shape.as_list()).fans
    greatest = np.abs(made.kernel.numpy()).max()
    limit = np.sqrt(6 / (fan_in + fan_out))  # of a uniform draw
    assert 0.7 * limit < greatest <= limit
