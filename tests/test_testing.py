"""`check_rule` on our rules, and on rules that are wrong in each way."""

import doctest
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import LAYERS, RULES, WITHOUT_B, layer
from tests.crossing import crossed
from tfcredit import layers, primitives, rules
from tfcredit.errors import UserError
from tfcredit.testing import _measured, check_rule

ROOT = Path(__file__).parents[1]
READS = {
    "activation_alignment": "xyB",
    "akrout_mirror": "B",
    "alignment": ["x", "y", "W", "B", "dy"],
    "autoencoder_alignment": "xyB",
    "brsf": "W",
    "calibrated_activation": "WB",
    "calibrated_mirror": "B",
    "feedback_alignment": "",
    "frozen_backprop": "WB",
    "frsf": "WB",
    "info_alignment": "xyB",
    "kolen_pollack": ["x", "dy", "B"],
    "l_drl": "B",
    "low_rank_feedback": ["x", "dy", "B"],
    "normalized_feedback_alignment": "WB",
    "phase_free_mirror": ["x", "y", "dy", "B"],
    "product_feedback_alignment": ["x", "dy", "B"],
    "sign_symmetry": "W",
    "soft_alignment": "",
    "symmetric_alignment": "WB",
    "tracking_activation": ["x", "dy", "W", "B"],
    "tracking_mirror": ["x", "dy"],
    "usf": "W",
    "weight_mirror": "xyB",
}
LOCAL = ["calibrated_mirror", "feedback_alignment", "info_alignment", "kolen_pollack"]
LOCAL += ["akrout_mirror", "autoencoder_alignment", "l_drl", "low_rank_feedback", "weight_mirror"]
LOCAL += ["phase_free_mirror", "product_feedback_alignment", "soft_alignment"]
LOCAL += ["tracking_mirror"]


@pytest.mark.every(12)
@pytest.mark.parametrize("name", READS)
def test_our_rules_pass(name):
    report = check_rule(RULES[name])
    assert report.reads == frozenset(READS[name])
    assert report.local == (name in LOCAL)
    assert report.rule.name in str(report)


def test_every_rule_is_listed():
    # Nothing teaches a kernel of the layer where it has none.
    assert sorted([*READS, *WITHOUT_B]) == rules.names()
    for name in WITHOUT_B:
        with pytest.raises(UserError, match=f"'{name}' has no feedback kernel"):
            check_rule(name)


def test_costs_are_those_of_the_closed_forms():
    count = check_rule("info_alignment").products
    assert count == {"op": 0, "op_transpose": 1, "hebbian": 1}
    assert check_rule("kolen_pollack").products["hebbian"] == 0
    assert check_rule("activation_alignment").products == {"op": 1, "op_transpose": 0, "hebbian": 1}


def op(state, b=None):
    return state.connection.op(state.x, state.feedback_kernel if b is None else b)


def back(state, y, kernel):
    return state.connection.op_transpose(y, kernel, tf.shape(state.x))


def hebbian(state, x, y):
    return state.connection.hebbian(x, y, state.feedback_kernel.shape)


# Loss or gradient of a rule -> why it is not local; those of one name teach B alike.
SPELLINGS = {
    "amp, as a loss": ("loss", lambda s: -tf.reduce_sum(s.y * op(s)), ()),
    "amp, by H": ("loss", lambda s: -tf.reduce_sum(s.feedback_kernel * hebbian(s, s.x, s.y)), ()),
    "null, as a loss": (
        "loss",
        lambda s: tf.nn.l2_loss(back(s, s.y, s.feedback_kernel)),
        (),
    ),
    "null, with B forward": (
        "loss",
        lambda s: 0.5 * tf.reduce_sum(s.y * op2(s)),
        (),
    ),
    "sparse, as a loss": ("loss", lambda s: tf.nn.l2_loss(op(s)), ("op(.; B)",)),
    "sparse, by H": ("gradient", lambda s: hebbian(s, s.x, op(s)), ("op(.; B)",)),
    "W backward, as a loss": (
        "loss",
        lambda s: tf.reduce_sum(
            s.y**2 * s.connection.op(back(s, s.y, s.feedback_kernel), s.kernel)
        ),
        ("W", "opT(.; W)"),
    ),
    "W backward": (
        "gradient",
        lambda s: hebbian(s, back(s, s.y, s.kernel), s.y),
        ("W", "opT(.; W)"),
    ),
    "signs of B forward": ("gradient", lambda s: hebbian(s, s.x, tf.sign(op(s))), ("op(.; B)",)),
}


def op2(state):
    """B forward on what B gives backward."""
    down = back(state, state.y, state.feedback_kernel)
    return state.connection.op(down, state.feedback_kernel)


@pytest.mark.parametrize("name", SPELLINGS)
def test_locality_is_of_what_teaches_b_not_of_how_it_is_written(name):
    kind, value, reasons = SPELLINGS[name]

    def loss(self, state):
        return value(state)

    def gradient(self, state, dy, dw):
        return value(state)

    rule = made({"loss": loss, "gradient": gradient}[kind])
    assert _measured(rule)[1] == reasons


def test_the_cost_of_a_loss_has_its_gradient():
    def loss(self, state):
        return -tf.reduce_sum(state.y * op(state))

    assert _measured(made(loss))[2] == {"op": 1, "op_transpose": 0, "hebbian": 1}


def test_the_page_of_new_rules_is_true():
    page = ROOT / "docs" / "new_rule.md"
    text = page.read_text().replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert len(test.examples) > 8
    assert doctest.DocTestRunner().run(test).failed == 0


def made(method):
    """A rule of one method."""

    class Wrong(rules.Rule):
        pass

    name = method.__name__
    assert name in METHODS
    setattr(Wrong, name, method)
    return rules.register("wrong")(Wrong)()


METHODS = ["update", "gradient", "loss"]
WRONG = {
    "shape": (lambda b: b[:1], r"update of rule 'wrong' gave a tensor of shape \(1, 4\)"),
    "float": (lambda b: 0.5, r"update of rule 'wrong' gave 0.5 in"),
    "nan": (lambda b: b * np.nan, "update of rule 'wrong' gave NaN or infinity"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_value_is_told(method, name):
    values, message = WRONG[name]

    def update(self, state):
        return values(state.feedback_kernel)

    def gradient(self, state, dy, dw):
        return values(state.feedback_kernel)

    def loss(self, state):
        total = values(state.feedback_kernel)
        return tf.reduce_sum(total) if name == "nan" else total

    methods = {each.__name__: each for each in (update, gradient, loss)}
    with pytest.raises(UserError, match=message.replace("update", method)):
        check_rule(made(methods[method]))


@pytest.mark.parametrize("name", ["shape", "float"])
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_tells_wrong_values_too(method, name):
    def call(self, state, dy=None, dw=None):
        return WRONG[name][0](state.feedback_kernel)

    call.__name__ = method
    layer = layers.Dense(4, rule=made(call))
    with (
        pytest.raises(UserError, match=f"{method} of rule 'wrong' gave .* in layer 'dense"),
        tf.GradientTape() as tape,
    ):
        total = tf.reduce_sum(layer(tf.ones((3, 6)), training=True)) + sum(layer.losses)
        tape.gradient(total, layer.feedback_kernel.value)


@pytest.mark.parametrize("method, batches", [("loss", 6), ("update", 7), ("gradient", 8)])
def test_keras_callback_stops_at_nan(method, batches):
    """A rule that fails from its sixth step on; the batch with which a plain `fit` ends."""

    def value(state):
        fails = tf.where(state.step < 5, 1.0, np.nan)
        if method == "loss":
            return fails * tf.nn.l2_loss(state.feedback_kernel)
        return fails * state.feedback_kernel

    def call(self, state, dy=None, dw=None):
        return value(state)

    call.__name__ = method
    rule = made(call)
    type(rule).counts_steps = True
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "tanh", rule=rule), layers.Dense(1, rule=rule)]
    )
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(80, 4))
    stop = keras.callbacks.TerminateOnNaN()
    losses = model.fit(x, x[:, :1], 8, epochs=2, callbacks=[stop], verbose=0).history["loss"]
    assert np.isnan(losses).all() and int(model.optimizer.iterations) == batches
    if method == "loss":
        assert all(np.isfinite(layer.kernel).all() for layer in model.layers)


def test_a_wrong_gradient_is_told():
    def loss(self, state):
        b = state.feedback_kernel
        return tf.nn.l2_loss(b) + 0.5 * tf.stop_gradient(tf.nn.l2_loss(b))

    with pytest.raises(UserError, match="changes by .* but its gradient says"):
        check_rule(made(loss))


def test_unseeded_noise_is_told():
    def update(self, state):
        return state.feedback_kernel + tf.random.normal([1], dtype=state.kernel.dtype)

    with pytest.raises(UserError, match="other values for the same seed and step"):
        check_rule(made(update))


def test_a_config_that_forgets_is_told():
    @rules.register("forgetful")
    class Forgetful(rules.Rule):
        def __init__(self, factor=1.0):
            self.factor = factor

        def loss(self, state):
            return self.factor * tf.nn.l2_loss(state.feedback_kernel)

        def __eq__(self, other):
            return self.factor == other.factor

        __hash__ = None

    with pytest.raises(UserError, match="get_config give all arguments"):
        check_rule(Forgetful(2.0))


WRAPS = {"eager": lambda function: function, "graph": tf.function}


@pytest.mark.parametrize(
    "name, wrap, scale",
    crossed(LAYERS, WRAPS, [1.0, 1024.0], quick=lambda n, w, _: n == "conv" or w == "eager"),
)
def test_a_function_equals_the_rule_that_it_states(name, wrap, scale):
    @rules.from_function("mine")
    def mine(connection, x, y, dy, w, b):
        return connection.hebbian(x, dy, b.shape) + 0.002 * b

    results = []
    for rule in ("mine", "kolen_pollack"):
        made, x = layer(name, rule)

        @WRAPS[wrap]
        def gradients(x, made=made):
            with tf.GradientTape() as tape:
                y = made(x, training=True)
                total = scale * (tf.reduce_sum(tf.sin(y)) + tf.add_n(made.losses))
            return tape.gradient(total, [made.kernel.value, made.feedback_kernel.value])

        results.append([each.numpy() / scale for each in gradients(x)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_primitive_of_ones_own():
    @primitives.register("quartic", degree=4, reads="B")
    def quartic(seen):
        return seen.b**3

    layer = layers.Dense(3, rule="0.5*quartic + 0.1*decay", seed=1)
    layer.build((None, 4))
    with tf.GradientTape() as tape:
        layer(tf.ones((2, 4)), training=True)
        (value,) = layer.losses
    b = layer.feedback_kernel.numpy()
    np.testing.assert_allclose(value, 0.125 * (b**4).sum() + 0.05 * (b**2).sum(), rtol=1e-5)
    gradient = tape.gradient(value, layer.feedback_kernel.value)
    np.testing.assert_allclose(gradient, 0.5 * b**3 + 0.1 * b, rtol=1e-5)
    check_rule(0.5 * quartic + 0.1 * primitives.decay)
    rule = rules.AlignmentRule(1.0 * quartic, inputs={"center_backward_output": True})
    layer = layers.Dense(3, rule=rule)
    with pytest.raises(UserError, match="'quartic' is stated by its gradient"):
        layer(tf.ones((2, 4)), training=True)


@pytest.mark.parametrize(
    "name, degree, message",
    [("amp", 1, "tfcredit's own"), ("a b", 1, "letters, digits"), ("mine", 0, "integer >= 1")],
)
def test_wrong_primitives_are_refused(name, degree, message):
    with pytest.raises(UserError, match=message):
        primitives.register(name, degree=degree)


def test_a_primitive_of_another_shape_is_refused():
    @primitives.register("bad", degree=1)
    def bad(seen):
        return 0.5

    with pytest.raises(UserError, match=r"gradient of primitive 'bad' is 0.5: .* \(6, 4\)"):
        check_rule(1.0 * bad)


@pytest.mark.parametrize(
    "degree, reads, message",
    [
        (1, "B", "primitive 'mine' states degree=1, but twice B does not give 1 times"),
        (3, "B", "primitive 'mine' states degree=3, but twice B does not give 4 times"),
        (2, "x", "reads B, which none of its primitives states: mend `reads` of 'mine'"),
    ],
)
def test_what_a_primitive_states_is_checked(degree, reads, message):
    @primitives.register("mine", degree=degree, reads=reads)
    def mine(seen):
        return seen.b

    with pytest.raises(UserError, match=message):
        check_rule(0.5 * mine)


def test_a_primitive_reads_x_y_w_and_b():
    with pytest.raises(UserError, match="reads='dy' of primitive 'mine' must be letters of x, y"):
        primitives.register("mine", degree=1, reads="dy")


def test_what_a_rule_states_and_does_not_do_is_told():
    def update(self, state):
        return state.feedback_kernel

    rule = made(update)
    type(rule).noise = "shared"
    with pytest.raises(UserError, match="states noise='shared' and draws none in a dense layer"):
        check_rule(rule)
    type(rule).noise = "mine"
    with pytest.raises(UserError, match="states noise='mine'"):
        check_rule(rule)

    def gradient(self, state, dy, dw):
        return tf.sign(dw)

    rule = made(gradient)
    check_rule(rule)
    type(rule).linear_in_error = True
    with pytest.raises(UserError, match="three times the error does not give three times"):
        check_rule(rule)


def test_noise_that_is_not_stated_is_told():
    def update(self, state):
        return state.feedback_kernel + state.noise(state.kernel.shape, state.kernel.dtype)

    with pytest.raises(UserError, match="let it state noise = 'shared'"):
        check_rule(made(update))


@pytest.mark.slow
@pytest.mark.multi_device
def test_our_rules_pass_on_two_devices(two_cpus):
    printed = two_cpus(
        """
import sys

import tfcredit

for name in sys.argv[1:]:
    print(tfcredit.testing.check_rule(name).strategies)
""",
        *(RULES[name] for name in READS),
    )
    compared = [rules.get(RULES[name]).noise != "per_replica" for name in READS]
    assert printed.split() == [str(each) for each in compared]
    assert sum(compared) > len(compared) - 4


@pytest.mark.slow
@pytest.mark.multi_device
def test_two_devices_are_compared_with_one(two_cpus):
    printed = two_cpus("""
import tfcredit
from tfcredit import rules
from tfcredit.errors import UserError

akrout = "akrout_mirror(samples=8, first_steps=3)"
for rule in ("info_alignment", "product_feedback_alignment", "calibrated_mirror", akrout):
    print(str(tfcredit.testing.check_rule(rule)).splitlines()[-1])


@rules.register("unlike")
class Unlike(rules.Rule):
    noise = "per_replica"

    def update(self, state):
        return state.feedback_kernel + state.noise(state.kernel.shape, state.kernel.dtype)


@rules.from_function("hebb")
def hebb(connection, x, y, dy, w, b):
    return connection.hebbian(x, dy, b.shape)


print(str(tfcredit.testing.check_rule("hebb")).splitlines()[-1])
try:
    tfcredit.testing.check_rule("unlike")
except UserError as problem:
    print(problem)
""")
    *ours, wrong = printed.splitlines()
    assert ours == ["several devices: as one"] * 5
    assert wrong.startswith("rule 'unlike' leaves another B on each of two devices")
