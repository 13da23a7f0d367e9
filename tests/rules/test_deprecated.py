"""Names and methods of tfcredit 0.1 work for one release, with a warning."""

import numpy as np
import pytest
import tensorflow as tf

import tfcredit
from tfcredit import data, layers, primitives, rules
from tfcredit.errors import UserError
from tfcredit.testing import check_rule


def gradients(rule):
    layer = layers.Dense(3, rule=rule, seed=1, kernel_initializer="ones")
    x = tf.random.stateless_normal((4, 5), [0, 1])
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        total = 2.0 * (tf.reduce_sum(y**2) + tf.add_n([0.0, *layer.losses]))
    return tape.gradient(total, [layer.kernel.value, layer.feedback_kernel.value])


def test_names():
    with pytest.warns(DeprecationWarning, match="called LayerState"):
        assert rules.Synapse is rules.LayerState
    with pytest.warns(DeprecationWarning, match="called Shard"):
        assert data.Share is data.Shard
    layer = layers.Dense(3, rule="feedback_alignment")
    layer.build((None, 4))
    with pytest.warns(DeprecationWarning, match="layer.layer_state"):
        assert layer.synapse(tf.ones((2, 4))).x.shape == (2, 4)
    for module in (tfcredit, rules, data):
        with pytest.raises(AttributeError, match="attribute '?nothing"):
            module.nothing  # noqa: B018


def test_a_gradient_of_dy_alone():
    with pytest.warns(DeprecationWarning, match=r"write gradient\(state, dy, dw\)"):

        @rules.register("old")
        class Old(rules.Rule):
            def gradient(self, synapse, dy):
                return synapse.connection.hebbian(synapse.x, dy, synapse.kernel.shape)

    dw, db = gradients("old")
    np.testing.assert_allclose(db, dw, rtol=1e-5)
    check_rule("old")


@pytest.mark.parametrize("method", ["error_coefficient", "error_gradient"])
def test_what_b_gets_of_dw(method):
    def error_coefficient(self, step):
        return 0.5

    def error_gradient(self, synapse, dw):
        return 0.5 * dw

    methods = {"error_coefficient": error_coefficient, "error_gradient": error_gradient}
    with pytest.warns(DeprecationWarning, match="linear_in_error"):
        cls = type("Old", (rules.Rule,), {method: methods[method]})
    rule = rules.register("old")(cls)()
    assert rule.linear_in_error and rule.learns
    dw, db = gradients(rule)
    np.testing.assert_allclose(db, 0.5 * dw, rtol=1e-6)


def test_a_first_b():
    with pytest.warns(DeprecationWarning, match=r"initial\(state, drawn\)"):

        class Old(rules.Rule):
            def initial(self, connection, drawn, seed):
                return tf.ones_like(drawn) * seed

    layer = layers.Dense(3, rule=Old(), seed=7)
    layer.build((None, 4))
    assert (layer.feedback_kernel.numpy() == 7).all()


def test_an_initializer_of_the_rule_is_refused():
    with pytest.raises(UserError, match="state start_angle, or write initial"):
        type("Old", (rules.Rule,), {"initializer": lambda self, given, seed: given})


def test_noise_that_is_not_stated():
    class Old(rules.Rule):
        counts_steps = True

        def update(self, synapse):
            shape, dtype = synapse.kernel.shape, synapse.kernel.dtype
            return synapse.noise(shape, dtype, **self.options)

    rule = Old()
    for options, message in [({"alike": True}, "noise = 'shared'"), ({}, "noise=None")]:
        rule.options = options
        layer = layers.Dense(3, rule=rule, seed=1)
        with pytest.warns(DeprecationWarning, match=message):
            layer(tf.ones((2, 4)), training=True)
    Old.counts_steps = False
    with pytest.raises(UserError, match="let it state noise = 'shared'"):
        layers.Dense(3, rule=Old.__new__(Old), seed=1)
        rule.options = {}
        layers.Dense(3, rule=rule)(tf.ones((2, 4)), training=True)


def test_a_primitive_of_five_arguments():
    with pytest.warns(DeprecationWarning) as warned:

        @primitives.register("old", degree=2, formula="1/2 |B|^2", reads="B")
        def old(connection, x, y, w, b):
            return b

    assert [str(each.message)[:9] for each in warned] == ["formula= ", "primitive"]
    (_, new), (_, mine) = gradients("0.5*decay"), gradients("0.5*old")
    np.testing.assert_allclose(mine, new)
