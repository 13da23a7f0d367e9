"""The activation that R may apply to a layer's projections, where it follows behind batch norm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import layers, models
from tfcredit.convert import to_backprop
from tfcredit.rules import InformationAlignment

# Of the paper's code: `alignment_relu` of each convolution.
ON = {
    "resnet18": ["conv0", "block_group1_0_conv1", "block_group2_1_conv1"],
    "resnet50": ["conv0", "block_group1_0_conv1", "block_group4_2_conv2"],
    "resnet50v2": ["block_layer1_0_conv1", "block_layer2_1_conv2"],
    "resnet18v2": ["block_layer1_0_conv1"],
}
OFF = {
    "resnet18": ["block_group1_0_conv0", "block_group1_0_conv2", "dense"],
    "resnet50": ["block_group1_0_conv0", "block_group1_0_conv3", "dense"],
    "resnet50v2": ["conv0", "block_layer1_0_conv0", "block_layer2_1_conv3", "dense"],
    "resnet18v2": ["conv0", "block_layer1_0_conv0", "block_layer1_0_conv2", "dense"],
}


@pytest.mark.every(2)
@pytest.mark.parametrize("name", ON)
def test_convolutions_before_a_relu_have_one_for_r(name):
    network = models.get(name, 10, (32, 32, 3), rule="info_alignment", seed=1)
    for where, expected in ((ON, keras.activations.relu), (OFF, None)):
        for layer in where[name]:
            assert network.get_layer(layer).alignment_activation is expected, layer


def layer_of(activation, **options):
    rule = InformationAlignment(inputs={"activation_forward": True})
    layer = layers.Conv2D(
        *(4, 3), padding="same", rule=rule, seed=1, alignment_activation=activation, **options
    )
    layer.build((None, 5, 5, 2))
    return layer


def test_r_sees_what_the_layer_states():
    x = tf.random.normal((3, 5, 5, 2), seed=1)
    layer = layer_of("relu", kernel_initializer=keras.initializers.GlorotUniform(seed=2))
    state = layer.layer_state(x)
    y = tf.nn.relu(state.y)
    b = tf.convert_to_tensor(layer.feedback_kernel)
    back = layer.connection.op_transpose(y, b, tf.shape(x))
    found, rule = layer.rule.primitive_values(state), layer.rule
    amp = -tf.reduce_sum(y * layer.connection.op(x, b)) / 3
    np.testing.assert_allclose(found["amp"], amp, rtol=1e-5)
    np.testing.assert_allclose(found["null"], tf.reduce_sum(back**2) / 6, rtol=1e-5)
    other = layer_of(None, kernel_initializer=keras.initializers.GlorotUniform(seed=2))
    values = other.rule.primitive_values(other.layer_state(x))
    assert abs(float(values["amp"] - found["amp"])) > 1e-3 and rule == other.rule
    np.testing.assert_array_equal(layer(x), other(x))  # the layer itself has none


def test_it_is_in_the_config_and_not_in_kerass():
    layer = layer_of("tanh", name="one")
    again = layers.Conv2D.from_config(layer.get_config())
    assert again.alignment_activation is keras.activations.tanh
    assert "alignment_activation" not in layer_of(None).get_config()
    inputs = keras.Input((5, 5, 2))
    plain = to_backprop(keras.Model(inputs, layer(inputs)))
    assert type(plain.get_layer("one")) is keras.layers.Conv2D
