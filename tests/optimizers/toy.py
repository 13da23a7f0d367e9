"""A small model with trainable feedback kernels, for the tests of the optimizers."""

import keras
import numpy as np


@keras.saving.register_keras_serializable("tfcredit_tests")
class Toy(keras.layers.Dense):
    """A dense layer whose feedback kernel learns from its distance to the kernel."""

    def __init__(self, units, follows=False, learn=True, **options):
        super().__init__(units, **options)
        self.follows, self.learn = follows, learn

    def build(self, input_shape):
        super().build(input_shape)
        self.feedback_kernel = self.add_weight(
            name="feedback_kernel", shape=self.kernel.shape, initializer=keras.initializers.Ones()
        )
        self.feedback_kernel.follows_forward = self.follows

    def call(self, inputs):
        if self.learn:
            distance = self.feedback_kernel - keras.ops.stop_gradient(self.kernel)
            self.add_loss(0.5 * keras.ops.sum(keras.ops.cast(distance, "float32") ** 2))
        return super().call(inputs)

    def get_config(self):
        return {**super().get_config(), "follows": self.follows, "learn": self.learn}

    save_own_variables = keras.layers.Layer.save_own_variables
    load_own_variables = keras.layers.Layer.load_own_variables


def model(optimizer=None, layer=Toy, seed=1, follows=False, learn=True, **compile_options):
    """Two layers on 3 inputs, the same weights each time."""
    options = {"follows": follows, "learn": learn} if layer is Toy else {}
    inputs = keras.Input((3,))
    hidden = layer(4, activation="tanh", name="first", **options)(inputs)
    network = keras.Model(inputs, layer(2, name="second", dtype="float32", **options)(hidden))
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(size=w.shape).astype("float32") for w in network.weights])
    if optimizer is not None:
        network.compile(optimizer, "mse", **compile_options)
    return network


def data(steps=4, batch=8, seed=2):
    """Batches of made-up inputs and targets, one after another."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps * batch, 3)).astype("float32")
    return x, np.tanh(x[:, :2]) * 2


def fit(network, epochs=1, **options):
    x, y = data()
    network.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **options)
    return network


def weights(network):
    return {variable.path: variable.numpy() for variable in network.weights}


def state(optimizer):
    return [np.array(variable) for variable in optimizer.variables]


def assert_same(first, second, atol=0.0):
    first, second = (list(w.values()) if isinstance(w, dict) else w for w in (first, second))
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)
