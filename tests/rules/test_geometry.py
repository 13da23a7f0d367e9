"""`Geometry`: what it predicts of estimates from noise in a layer's whole input is measured."""

import numpy as np
import pytest
import tensorflow as tf

from tests.rules.test_calibrated import LAYERS
from tfcredit.connections import ConvConnection, DenseConnection
from tfcredit.errors import UserError
from tfcredit.rules.geometry import geometry


@pytest.mark.every(4)
@pytest.mark.parametrize("name", LAYERS)
def test_geometry_is_what_many_estimates_have(name):
    """Their mean is W, within the error that `variance` predicts; their mean square error too."""
    connection, shape, kernel_shape = LAYERS[name]
    layer, rng, draws = geometry(connection, shape, kernel_shape), np.random.default_rng(4), 800
    w = tf.constant(rng.choice([-1.0, 1.0], size=kernel_shape))  # of mean square 1 at each tap

    @tf.function
    def estimate(xi):
        return connection.hebbian(xi, connection.op(xi, w), kernel_shape) / layer.counts

    estimates = [estimate(tf.constant(rng.normal(size=(1, *shape)))) for _ in range(draws)]
    errors = (np.stack(estimates) - w.numpy()) * layer.met
    met = np.broadcast_to(layer.met, kernel_shape).mean()
    np.testing.assert_allclose(np.mean(errors**2) / met, layer.variance, rtol=0.06)
    # What a mean of so many has by chance; few channels leave few independent errors in it.
    assert np.mean(errors.mean(0) ** 2) / met < 3 * layer.variance / draws


def test_geometry_of_full_overlap_is_the_formula():
    for name, inputs, positions in [("dense", 30, 1), ("dense rank 3", 12, 4), ("valid", 36, 16)]:
        found = geometry(*LAYERS[name])
        np.testing.assert_allclose(found.variance, (inputs + 1) / positions)
        assert (found.counts == positions).all() and (found.met == 1).all()


def test_taps_that_never_meet_the_input_are_marked():
    found = geometry(*LAYERS["1x1 map"])
    expected = np.zeros((3, 3, 1, 1))
    expected[1, 1] = 1
    assert (found.met == expected).all() and (found.counts == 1).all()


def test_geometry_refuses_unknown_input_sizes():
    with pytest.raises(UserError, match="full input shape"):
        geometry(ConvConnection(), (None, 6, 4), (3, 3, 4, 8))
    with pytest.raises(UserError, match="full input shape"):
        geometry(DenseConnection(), (None, 4), (4, 8))
