"""Rules that are sums of primitives: what R sees, schedules, costs, and refusals."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.connection_cases import case
from tests.test_primitives import Counting, assert_close, by_autodiff
from tfcredit import primitives, rules
from tfcredit.connections import ConvConnection, DenseConnection
from tfcredit.errors import UserError
from tfcredit.rules import AlignmentInputs, AlignmentRule, LayerState
from tfcredit.rules.objective import (
    AlteredSeen,
    alter_input,
    alter_output,
    batch_center,
    objective,
)

SUMS = [
    {"amp": 0.3, "decay": 0.2},
    {"amp": 0.3, "null": 0.5, "decay": 0.2},
    {"amp": 0.3, "sparse": 0.4},
    {"amp": 0.3, "null": 0.5, "sparse": 0.4},
]
LAYERS = {
    "dense": (DenseConnection(), (4,), (4, 3)),
    "conv": (ConvConnection((2, 2), "same"), (4, 4, 2), (3, 3, 2, 3)),
}


def state(layer="dense", step=None, connection=None, dtype="float64", batch=3):
    own, shape, kernel_shape = LAYERS[layer]
    made = case(own, shape, kernel_shape, dtype, batch)
    return LayerState(
        connection=connection or own,
        x=made.x,
        y=made.y,
        kernel=made.kernel,
        feedback_kernel=made.feedback,
        bias=tf.cast(tf.linspace(-0.5, 0.5, kernel_shape[-1]), dtype),
        activation=keras.activations.tanh,
        seed=5,
        step=None if step is None else tf.constant(step, tf.int32),
        y_is_product=True,
    )


def loss_and_gradient(rule, given):
    return by_autodiff(
        lambda b: rule.loss(dataclasses.replace(given, feedback_kernel=b)), given.feedback_kernel
    )


# Options that keep the closed form: they alter only what R is given.
KEEPING = [
    {},
    {"center_input": True},
    {"normalize_input": True},
    {"batch_center_backward_input": True},
    {"use_bias_forward": True},
    {"activation_forward": True},
    {"activation_forward": True, "activation": "relu", "use_bias_forward": True},
    {"center_forward_output": True},
    {"normalize_forward_output": True},
    {"batch_center_forward_output": True},
    {"noise": "normal", "stddev": 0.5},
    {"noise": "uniform", "normalize_input": True, "activation_forward": True},
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("coefficients", SUMS, ids="+".join)
@pytest.mark.parametrize("options", KEEPING, ids=lambda options: "+".join(options) or "none")
@pytest.mark.every(2)
def test_options_keep_the_closed_form(options, coefficients, layer):
    inputs = AlignmentInputs(**options)
    assert not inputs.alters_backward
    given = state(layer, step=2)
    value, gradient = loss_and_gradient(AlignmentRule(coefficients, inputs=inputs), given)
    x = given.x
    if inputs.noise:
        x = inputs.stddev * given.noise(tf.shape(x), x.dtype, inputs.noise)
    x = alter_input(x, inputs)
    y = given.connection.op(x, given.kernel)
    y = y + given.bias if inputs.use_bias_forward else y
    if inputs.activation_forward:
        y = (tf.nn.relu if inputs.activation else tf.tanh)(y)
    centred = batch_center(x) if inputs.batch_center_backward_input else None
    expected = by_autodiff(
        lambda b: objective(
            coefficients,
            AlteredSeen(given.connection, x, y, given.kernel, b, inputs=inputs, x_backward=centred),
        ),
        given.feedback_kernel,
    )
    assert_close(value, expected[0])
    assert_close(gradient, expected[1])
    if options.keys() & {"center_forward_output", "normalize_forward_output"}:
        assert np.abs(alter_output(y, inputs, "forward") - y).max() > 1e-3


ALTERING = [
    field.name
    for field in dataclasses.fields(AlignmentInputs)
    if field.type in (bool, "bool") and AlignmentInputs(**{field.name: True}).alters_backward
]


@pytest.mark.parametrize("option", ALTERING)
def test_other_options_are_differentiated(option):
    """Their R is that of finite differences too, and differs from R without them or is equal
    by adjointness."""
    rule = AlignmentRule(SUMS[3], inputs={option: True})
    given = state()
    value, gradient = loss_and_gradient(rule, given)
    direction = np.random.default_rng(0).normal(size=gradient.shape)
    step = 1e-5 * direction
    ends = [
        rule.loss(dataclasses.replace(given, feedback_kernel=given.feedback_kernel + sign * step))
        for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]).numpy() / 2e-5
    np.testing.assert_allclose(slope, np.sum(gradient * direction), rtol=1e-6)
    plain = AlignmentRule(SUMS[3]).loss(given)
    assert np.isclose(value, plain, rtol=1e-9) == (option == "reconstruction_amp")


def test_inputs_list_every_altering_option():
    assert len(ALTERING) == 8


COSTS = {
    "info_alignment": (0, 1, 1),
    "activation_alignment": (1, 0, 1),
    "weight_mirror": (0, 0, 1),
    "symmetric_alignment": (0, 0, 0),
    "kolen_pollack": (0, 0, 0),
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("layer", LAYERS)
def test_products_of_a_named_rule_beyond_the_forward_product(layer, name):
    counting = Counting(LAYERS[layer][0])
    loss_and_gradient(rules.get(name), state(layer, connection=counting))
    assert tuple(counting.counts.values()) == COSTS[name]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_r_is_a_mean_over_the_batch(batch):
    rule = AlignmentRule({"amp": 1.0, "null": 1.0, "sparse": 1.0})
    given = state(batch=batch)
    once = loss_and_gradient(rule, given)
    doubled = dataclasses.replace(given, x=tf.tile(given.x, [2, 1]), y=tf.tile(given.y, [2, 1]))
    for actual, expected in zip(loss_and_gradient(rule, doubled), once, strict=True):
        assert_close(actual, expected)


def test_gradient_reaches_the_feedback_kernel_only():
    given = state()
    sources = [given.x, given.y, given.kernel, given.bias]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        loss = AlignmentRule(SUMS[3] | {"self": 0.5, "decay": 0.1}).loss(given)
    assert tape.gradient(loss, sources) == [None] * 4


def test_schedules_follow_the_step():
    ramp = keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.0)
    rule = AlignmentRule({"amp": ramp, "decay": 0.5}, rate=ramp)
    assert rule.counts_steps
    for step, factor in [(0, 1.0), (5, 0.5), (10, 0.0)]:
        fixed = AlignmentRule({"amp": factor, "decay": 0.5}, rate=factor)
        for actual, expected in zip(
            loss_and_gradient(rule, state(step=step, dtype="float32")),
            loss_and_gradient(fixed, state(dtype="float32")),
            strict=True,
        ):
            assert_close(actual, expected, 1e-6)
    scheduled = AlignmentRule({"error": ramp})
    assert float(scheduled.gradient(state(step=5), None, tf.ones([]))) == 0.5
    assert rules.get(rules.serialize(rule)).get_config() == rule.get_config()


def test_values_of_the_primitives():
    rule, given = AlignmentRule(SUMS[3] | {"decay": 0.2, "error": 1.0}), state()
    values = rule.primitive_values(given)
    assert set(values) == set(SUMS[3]) | {"decay"}
    total = sum(rule.coefficients[name] * value for name, value in values.items())
    assert_close(total, rule.loss(given))


def test_strings_sums_and_configs_are_one():
    rule = AlignmentRule({"amp": 0.002, "null": 1.0})
    sums = ["0.002*amp + null", {"name": "alignment", "coefficients": rule.coefficients}]
    sums += [0.002 * primitives.amp + primitives.null, rules.serialize(rule)]
    for identifier in sums:
        assert rules.get(identifier) == rule and hash(rules.get(identifier)) == hash(rule)
    assert rules.get("self_ + 0.5*decay") == AlignmentRule({"self": 1.0, "decay": 0.5})
    assert rules.get("weight_mirror(amp=0.5)") == rules.WeightMirror(amp=0.5)
    assert rules.get(rules.WeightMirror) == rules.WeightMirror() != rules.WeightMirror(amp=0.5)
    assert rules.get("weight_mirror(amp=0.5)") != AlignmentRule({"amp": 0.5, "decay": 0.002})


@pytest.mark.parametrize("name", rules.names())
def test_every_rule_goes_through_json_data(name):
    rule = rules.get("amp + 0.5*null") if name == "alignment" else rules.get(name)
    assert rule.name == name
    assert rules.get(rules.serialize(rule)) == rule
    assert type(rule).from_config(rule.get_config()) == rule
    assert type(rule).__name__ in repr(rule)


REFUSED = {
    "info_alignmnt": "did you mean 'info_alignment'",
    "zzz": "Known rules: activation_alignment",
    "alignment": "coefficients",
    "0.5*amp + 2*nul": "sum of primitives",
    "0.5*amp - null": "can't be read",
    "weight_mirror(amp=nan)": "can't be read",
    "weight_mirror(amp=-1)": "finite number >= 0",
    "weight_mirror(amp='x')": "finite number >= 0",
    "weight_mirror(ampp=1)": "did you mean 'amp'",
    "weight_mirror(null=1)": "has no coefficient 'null'.*It takes amp, decay",
    "backprop(amp=1)": "does not take these arguments",
    "calibrated_mirror(angel=5)": "did you mean 'angle'\\? It takes angle, gain",
    "calibrated_mirror(angle=90)": "angle=90",
    "calibrated_mirror(angle=0)": "angle=0",
    "calibrated_mirror(gain=1.5)": "gain=1.5",
    "calibrated_activation(gain=1)": "gain=1",
    "calibrated_activation(gain='a')": "gain='a'",
    "sign_symmetry(variant='xsf')": "usf, brsf, frsf",
    "weight_mirror(inputs={'noise': 'pink'})": "normal, uniform",
    "weight_mirror(inputs={'nose': 'normal'})": "'nose' is no option",
    "weight_mirror(inputs={'stddev': 0})": "stddev=0",
    "weight_mirror(inputs={'stddev': 'a'})": "stddev='a'",
    "weight_mirror(inputs={'fraction': 0})": "fraction=0 must be a positive",
    "weight_mirror(inputs={'fraction': 1.5})": "fraction=1.5",
    "weight_mirror(inputs={'fraction': True})": "fraction=True",
    "weight_mirror(inputs={'precision': 'int8'})": "precision='int8'.*float32, bfloat16, float16",
    "weight_mirror(inputs={'activation': 'rellu'})": "activation='rellu'",
    "weight_mirror(inputs='normal')": "inputs='normal'",
}


@pytest.mark.parametrize("identifier", REFUSED)
def test_strings_that_are_refused(identifier):
    with pytest.raises(UserError, match=REFUSED[identifier]):
        rules.get(identifier)


@pytest.mark.parametrize(
    "coefficients, message",
    [
        ({"amp": float("nan")}, "finite number"),
        ({"amp": float("inf")}, "finite number"),
        ({"amp": -1e-9}, "finite number"),
        ({"amp": True}, "finite number"),
        ({"amp": None}, "finite number"),
        ({"apm": 1.0}, "did you mean 'amp'"),
        ({"xyz": 1.0}, "Known primitives: decay, amp"),
    ],
    ids=str,
)
def test_coefficients_that_are_refused(coefficients, message):
    with pytest.raises(UserError, match=message):
        AlignmentRule(coefficients)


@pytest.mark.parametrize(
    "identifier",
    [
        None,
        3,
        keras.layers.ReLU(),
        keras.optimizers.SGD,
        {"amp": 1.0},
        keras.saving.serialize_keras_object(keras.initializers.Zeros()),
        {"class_name": "Unheard", "config": {}, "registered_name": None, "module": None},
    ],
    ids=lambda value: type(value).__name__,
)
def test_things_that_are_no_rule(identifier):
    with pytest.raises(UserError, match="rule"):
        rules.get(identifier)


@pytest.mark.parametrize("mapping", [{}, {"a": 1}, {"amp": 1.0}, {"name": None}, {"name": 5}])
def test_mappings_that_name_no_rule(mapping):
    with pytest.raises(UserError, match="is a mapping that names no rule: give 'name'"):
        rules.get(mapping)
