"""Tracking rules: angles are as predicted, W that moves unseen is found, odd input is told."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.crossing import crossed
from tests.rules.test_calibrated import LAYERS
from tfcredit import analysis, connections, convert, layers, models, rules, testing
from tfcredit.errors import UserError
from tfcredit.rules import LayerState, TrackingActivation, TrackingMirror, tracking

RULES = {"mirror": TrackingMirror, "activation": TrackingActivation}
FIRST = ["dense", "same", "transposed"]


class Learner:
    """A layer's W and B under a tracking rule, both drawn at random."""

    def __init__(self, layer, rule, samples=8, dtype=tf.float32, eager=False):
        self.connection, shape, kernel_shape = layer
        self.rule, self.axes = rule, self.connection.axes(kernel_shape)
        rng = np.random.default_rng(0)
        self.w, self.b = (tf.constant(rng.normal(size=kernel_shape), dtype) for _ in range(2))
        self.x = tf.zeros((samples, *shape), dtype)
        self.y = self.connection.op(self.x, self.w)
        self.memory, self.step = tf.constant(rule.memory), 0
        self.update = self._update if eager else tf.function(self._update)

    def _update(self, w, b, memory, step):
        state = LayerState(
            connection=self.connection,
            x=self.x,
            y=self.y,
            kernel=w,
            feedback_kernel=b,
            bias=None,
            activation=None,
            seed=3,
            step=step,
            noise_kind=self.rule.noise,
            memory=memory,
        )
        return self.rule.update(state)

    @property
    def error(self):
        """|B - W|^2 / |W|^2."""
        return float(tf.reduce_sum((self.b - self.w) ** 2) / tf.reduce_sum(self.w**2))

    def run(self, steps=1):
        """The error after each step."""
        errors = []
        for _ in range(steps):
            step = tf.constant(self.step)
            self.b, self.memory = self.update(self.w, self.b, self.memory, step)
            self.step += 1
            errors.append(self.error)
        return np.array(errors)


def square_of(degrees):
    return np.tan(np.radians(degrees)) ** 2


@pytest.mark.parametrize(
    "name, angle",
    crossed(LAYERS, [3, 8], quick=lambda name, angle: angle == 8 or name in FIRST),
)
def test_alignment_reaches_the_angle_in_the_first_call(name, angle):
    learner = Learner(LAYERS[name], TrackingMirror(angle), eager=True)
    # Few weights, of few windows, make a mean of few squares.
    assert 0.3 < learner.run()[0] / square_of(angle) < 3.0
    assert float(learner.memory[0]) == pytest.approx(square_of(angle), rel=0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_activation_aligns_in_the_first_call_too(name):
    learner = Learner(LAYERS[name], TrackingActivation(3), eager=True)
    assert learner.run()[0] < 1.5 * square_of(3)


@pytest.mark.every(3)
@pytest.mark.parametrize("name", FIRST)
def test_error_falls_as_that_of_the_mean_of_all_samples(name):
    """By Kalman's gain: (fan_in - 1) / (samples of the alignment and of all refinements)."""
    rule = TrackingMirror(20, budget=0.3)
    learner = Learner(LAYERS[name], rule, samples=640)  # that pay for a refinement in every step
    fan_in = learner.axes.fan_in
    learner.run()
    at_first = (fan_in - 1) / float(learner.memory[0])
    measured = {step: learner.run(10)[-1] for step in range(10, 410, 10)}
    budget = 1.5 * 0.3 * _fields(learner)
    steps = np.ceil(2 * tracking.SAMPLES_OF_PASSES / budget)
    per_step = budget - tracking.SAMPLES_OF_PASSES / steps
    for step in (10, 100, 400):
        predicted = (fan_in - 1) / (at_first + per_step * step)
        assert 0.4 < measured[step] / predicted < 2.0, step
    # What chance shows now and then counts as error, until it is averaged away.
    assert 0.95 < float(learner.memory[0]) / predicted < 1.5


def _fields(learner):
    """Samples times positions, counted another way: ones at every weight."""
    if learner.axes.scatters:
        return learner.x.shape.num_elements() / learner.axes.fan_in
    return learner.y.shape.num_elements() / learner.y.shape[-1]


@pytest.mark.parametrize("kind", RULES)
def test_angle_only_falls_where_b_gets_what_w_gets(kind):
    learner = Learner(LAYERS["same"], RULES[kind](5, budget=0.05), samples=32)
    rng = np.random.default_rng(1)
    errors = [learner.run()[0]]
    for _ in range(100):
        step = tf.constant(0.02 * rng.normal(size=learner.w.shape), tf.float32)
        learner.w, learner.b = learner.w + step, learner.b + step
        errors.append(learner.run()[0])
    assert max(errors) < 1.2 * errors[0] and errors[-1] < 0.7 * errors[0]


@pytest.mark.every(3)
@pytest.mark.parametrize("samples", [2, 64])
@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("name", ["dense", "same", "depthwise"])
def test_a_kernel_that_is_replaced_is_found_again(name, kind, samples):
    learner = Learner(LAYERS[name], RULES[kind](5), samples)
    learner.run(30)
    learner.w = tf.constant(np.random.default_rng(9).normal(size=learner.w.shape), tf.float32)
    assert learner.error > 0.5
    assert learner.run(100)[-1] < 1.5 * square_of(5)


def turned(w, degrees=45):
    other = np.random.default_rng(9).normal(size=w.shape)
    other -= w * np.sum(other * w) / np.sum(w**2)
    other *= np.linalg.norm(w) / np.linalg.norm(other)
    return np.cos(np.radians(degrees)) * w + np.sin(np.radians(degrees)) * other


CHANGES = {
    "turned": turned,
    "halved": lambda w: 0.5 * w,
    "pruned": lambda w: np.where(np.abs(w) < np.median(np.abs(w)), 0.0, w),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", RULES)
def test_a_kernel_that_is_changed_at_once_is_found_again(kind, change):
    learner = Learner(LAYERS["same"], RULES[kind](5), samples=640)
    learner.run(30)
    learner.w = tf.constant(CHANGES[change](learner.w.numpy()), tf.float32)
    assert learner.error > 0.05
    assert learner.run(10)[-1] < 1.5 * square_of(5)
    assert learner.memory[0] < 1.5 * square_of(5)


def test_a_kernel_of_few_independent_columns_is_hardly_ever_suspected(monkeypatch):
    monkeypatch.setattr(tracking, "MOST_STEPS", 1)  # every call refines
    layer = (connections.DenseConnection(), (256,), (256, 64))
    learner, rng = Learner(layer, TrackingMirror(5), samples=1600), np.random.default_rng(4)
    factors = rng.normal(size=(256, 2)) @ rng.normal(size=(2, 64))
    learner.w = tf.constant(factors, tf.float32)
    learner.run()
    suspected = 0
    for _ in range(150):
        learner.run()
        suspected += float(learner.memory[-1]) > 0
    assert suspected <= 1  # 18, if the columns counted as independent
    assert float(learner.memory[0]) < 1.1 * square_of(5) and learner.error < 1.3 * square_of(5)


def test_a_b_that_was_suspected_wrongly_keeps_what_it_knows():
    learner = Learner(LAYERS["same"], TrackingMirror(5), samples=640)
    before = learner.run(300)[-1]
    known = float(learner.memory[0])
    assert known < 0.1 * square_of(5)
    learner.memory = tf.tensor_scatter_nd_add(learner.memory, [[3]], [1.0])
    assert learner.run()[0] < 1.2 * before and float(learner.memory[0]) < known


@pytest.mark.parametrize("kind", RULES)
def test_a_kernel_that_was_nan_for_a_while_is_found_again(kind):
    learner = Learner(LAYERS["same"], RULES[kind](5), samples=64)
    learner.run(10)
    w, learner.w = learner.w, learner.w * np.nan
    learner.run(10)
    assert np.isnan(learner.b).all() and not learner.memory[-1] > 0  # no alignment that is in vain
    learner.w = w
    assert learner.run(10)[-1] < 1.5 * square_of(5)


@pytest.mark.parametrize("kind", RULES)
def test_noise_on_w_alone_raises_the_gain(kind):
    """A random walk of W that B does not see: the error stays bounded, and is known."""
    learner = Learner(LAYERS["same"], RULES[kind](5), samples=640)
    rng = np.random.default_rng(1)
    learner.run(3)
    errors, expected = [], []
    for _ in range(600):
        step = 0.02 * rng.normal(size=learner.w.shape)
        learner.w = 0.9998 * learner.w + tf.constant(step, tf.float32)
        errors.append(learner.run()[0])
        expected.append(float(tf.reduce_sum(learner.memory[:2])))
    unseen = 600 * 0.02**2
    assert np.mean(errors[300:]) < 0.4 * unseen
    assert 0.5 < np.mean(expected[300:]) / np.mean(errors[300:]) < 2


@pytest.mark.parametrize("kind", RULES)
def test_decay_of_w_alone_is_followed(kind):
    learner = Learner(LAYERS["same"], RULES[kind](5), samples=64)
    learner.run(3)
    for _ in range(300):
        learner.w = 0.998 * learner.w
        learner.run()
    assert learner.error < 0.05


@pytest.mark.parametrize("kind", RULES)
def test_a_kernel_of_zeros_gives_zeros_and_nan_is_not_hidden(kind):
    learner = Learner(LAYERS["dense"], RULES[kind]())
    learner.w = tf.zeros_like(learner.w)
    learner.run(60)
    assert np.abs(learner.b).max() < 1e-3
    learner = Learner(LAYERS["dense"], RULES[kind]())
    learner.w = learner.w * np.nan
    learner.run(2)
    assert np.isnan(learner.b).all()


def test_activation_knows_zeros_at_once():
    """No correction is left to take, in this call or the next."""
    learner = Learner(LAYERS["dense"], TrackingActivation(5))
    learner.w = learner.b = tf.zeros_like(learner.w)
    learner.run()
    assert float(learner.memory[0]) == np.abs(learner.b).max() == 0


def test_the_error_to_expect_falls_where_w_grows():
    """W - B stays while both get the same steps."""
    learner = Learner(LAYERS["same"], TrackingMirror(5), samples=640)
    learner.run(2)
    before = float(learner.memory[0]) / learner.error
    for _ in range(20):
        step = tf.constant(np.random.default_rng(7).normal(size=learner.w.shape), tf.float32)
        learner.w, learner.b = learner.w + step, learner.b + step
        learner.run()
    assert 0.8 < float(learner.memory[0]) / learner.error / before < 1.25


@pytest.mark.parametrize("kind", RULES)
def test_b_of_zeros_is_aligned_with(kind):
    learner = Learner(LAYERS["dense"], RULES[kind](5))
    learner.b = tf.zeros_like(learner.b)
    assert learner.run()[0] < 1.5 * square_of(5)


@pytest.mark.parametrize("kind", RULES)
def test_a_fan_in_of_one_is_known_exactly(kind):
    layer = LAYERS["dense"][0], (1,), (1, 6)
    assert Learner(layer, RULES[kind]()).run(60)[-1] < 1e-10


@pytest.mark.parametrize("kind", RULES)
def test_half_precision_kernels_sum_in_float32(kind):
    learner = Learner(LAYERS["same"], RULES[kind](3), dtype=tf.float16)
    learner.run(5)
    assert learner.b.dtype == tf.float16 and learner.error < 1.5 * square_of(3)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.every(2)
def test_xla_and_eager_mode_give_the_same(kind):
    learners = [Learner(LAYERS["same"], RULES[kind](8)) for _ in range(3)]
    learners[1].update = tf.function(learners[1]._update, jit_compile=True)
    learners[2].update = learners[2]._update
    for learner in learners:
        learner.run(3)
    for other in learners[1:]:
        np.testing.assert_allclose(learners[0].b, other.b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", RULES)
def test_a_batch_of_unknown_size_gets_the_same(kind):
    found = []
    for size in (8, None):
        layer = layers.Dense(6, rule=RULES[kind](8), seed=1, feedback_initializer="zeros")
        signature = [tf.TensorSpec([size, 40])]
        layer.build((size, 40))
        call = tf.function(functools.partial(layer, training=True), input_signature=signature)
        layer.kernel.assign(np.random.default_rng(0).normal(size=(40, 6)))
        for _ in range(60):
            call(np.ones((8, 40), "float32"))
        found.append((layer.feedback_kernel.numpy(), layer.rule_memory.numpy()))
    for known, unknown in zip(*found, strict=True):
        np.testing.assert_allclose(known, unknown, rtol=1e-6)


@pytest.mark.parametrize("rule", ["tracking_mirror", "tracking_activation"])
def test_a_step_by_xla_behind_one_in_graph_mode(rule):
    """With batches of unknown size: XLA can't compile a graph that was built for another step."""
    x, y = np.ones((20, 8), "float32"), np.zeros(20)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    for jit_compile in (False, True, False):
        network = keras.Sequential([keras.Input((8,)), layers.Dense(6, rule=rule, seed=1)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile("sgd", loss, jit_compile=jit_compile)
        assert np.isfinite(network.fit(batches, shuffle=False, verbose=0).history["loss"]).all()
        assert analysis.alignment(network)[0]["angle"] < 3


@pytest.mark.parametrize("rule", ["tracking_mirror", "tracking_activation"])
def test_check_rule_passes(rule):
    assert testing.check_rule(rule).rule.name == rule


def test_layers_of_one_geometry_call_one_graph_in_turn():
    sizes = (12, 12, 5, 12)
    chain = [
        layers.Dense(size, rule="tracking_mirror", seed=size + i) for i, size in enumerate(sizes)
    ]
    network = keras.Sequential([keras.Input((12,)), *chain[:3], layers.Dense(12), *chain[3:]])
    step = tf.function(lambda x: network(x, training=True)).get_concrete_function(tf.ones([8, 12]))
    calls = [op for op in step.graph.get_operations() if op.type == "PartitionedCall"]
    assert len(calls) == 4 and len({op.get_attr("f").name for op in calls}) == 2
    for before, after in zip(calls, calls[1:], strict=False):
        assert before in after.control_inputs


def test_a_file_of_a_rule_with_another_memory_is_refused(tmp_path):
    def network(rule):
        return keras.Sequential([keras.Input((12,)), layers.Dense(6, rule=rule, seed=1)])

    network("calibrated_mirror").save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(ValueError, match="it was saved from a layer with another rule"):
        network("tracking_mirror").load_weights(tmp_path / "own.weights.h5")


@pytest.mark.parametrize("value", [0, -1, 45, 90, np.nan, "5"])
def test_angles_out_of_range_are_told(value):
    with pytest.raises(UserError, match="angle="):
        TrackingMirror(angle=value)


@pytest.mark.parametrize("value", [0, -0.1, 1.1, np.inf, "much"])
def test_budgets_out_of_range_are_told(value):
    with pytest.raises(UserError, match="budget="):
        TrackingActivation(budget=value)


def test_a_budget_too_small_for_samples_is_told():
    layer = layers.Dense(3, rule="tracking_mirror(budget=0.001)")
    with pytest.raises(UserError, match="does not pay for one sample.*give at least 0.0033"):
        layer(np.ones((4, 5), "float32"), training=True)
    layers.Dense(3, rule="tracking_mirror")(np.ones((1, 5), "float32"), training=True)


def test_networks_share_their_angle_among_layers():
    network = models.get("fc", 10, (8,), rule="tracking_mirror", seed=1, depth=3)
    taught = [each for each in network.layers if isinstance(each, layers.FeedbackLayer)]
    assert len(taught) == 4
    for layer in taught:
        assert square_of(layer.rule.angle) == pytest.approx(square_of(10) / 4)
    plain = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(3)])
    for layer in convert.to_feedback(plain, "tracking_activation", seed=1).layers:
        assert square_of(layer.rule.angle) == pytest.approx(square_of(10) / 2)
    given = convert.to_feedback(plain, "tracking_activation(angle=3)", seed=1)
    assert {layer.rule.angle for layer in given.layers} == {3}


def _trained(rule="tracking_mirror(angle=5)", steps=3, **options):
    keras.utils.set_random_seed(0)
    layer = layers.Dense(4, rule=rule, seed=1, **options)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(size=(8 * steps, 6)).astype("float32")
    return model, layer, x, x[:, :4] ** 2


def test_a_saved_network_is_not_aligned_again(tmp_path):
    model, layer, x, y = _trained()
    model.fit(x, y, 8, verbose=0)
    model.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    assert copy.layers[0].rule_memory.numpy()[0] == layer.rule_memory.numpy()[0] < 0.01
    for each in (model, copy):
        each.fit(x, y, 8, verbose=0, shuffle=False)
    np.testing.assert_array_equal(copy.layers[0].feedback_kernel, layer.feedback_kernel)


@pytest.mark.parametrize("rule", ["tracking_mirror(angle=5)", "kolen_pollack(decay=0.0)"])
def test_b_does_not_follow_a_frozen_w(rule):
    model, layer, x, y = _trained(rule)
    model.fit(x, y, 8, verbose=0)
    layer.kernel.trainable = False
    model.compile(keras.optimizers.SGD(0.1), "mse")
    kernels = layer.kernel, layer.feedback_kernel
    before = [each.numpy() for each in kernels]
    model.fit(x, y, 8, epochs=5, verbose=0)
    for kernel, then in zip(kernels, before, strict=True):
        np.testing.assert_allclose(kernel, then, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "constraint", [keras.constraints.MaxNorm(0.5), "non_neg"], ids=["max_norm", "non_neg"]
)
def test_b_is_constrained_as_w_is(constraint):
    model, layer, x, y = _trained("tracking_mirror(angle=1)", kernel_constraint=constraint)
    model.fit(x, y, 8, epochs=10, verbose=0)
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    np.testing.assert_allclose(layer.kernel.constraint(w), w, rtol=1e-5)
    assert np.sum((w - b) ** 2) / np.sum(w**2) < 1.5 * square_of(1)


def test_loaded_weights_are_found_again():
    model, layer, x, y = _trained()
    model.fit(x, y, 8, verbose=0)
    layer.kernel.assign(np.random.default_rng(5).normal(size=(6, 4)))
    model.fit(x, y, 8, epochs=34, verbose=0)
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    assert np.sum((w - b) ** 2) / np.sum(w**2) < 1.5 * square_of(5)


@pytest.mark.parametrize("kind", RULES)
def test_a_renewed_feedback_kernel_is_aligned_with_w(kind):
    """By hand, where W was replaced: at once, though a few samples would not have told."""
    model, layer, x, y = _trained(f"tracking_{kind}(angle=5)")
    model.fit(x, y, 8, verbose=0)
    layer.kernel.assign(turned(layer.kernel.numpy(), 20))
    layer.renew_feedback_kernel()
    assert layer.rule_memory.numpy().tolist() == list(layer.rule.memory)
    model.train_on_batch(x[:8], y[:8])
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    assert np.sum((w - b) ** 2) / np.sum(w**2) < 3 * square_of(5)  # of 24 weights


def test_a_layer_that_starts_with_more_noise_than_weights_aligns_once(monkeypatch):
    monkeypatch.setattr(tracking, "ALIGNMENT_PRODUCTS", 1.0)
    monkeypatch.setattr(tracking, "ALIGNMENT_STEPS", 1)
    monkeypatch.setattr(tracking, "PART", 50 * (400 + 8))
    layer = layers.Dense(8, rule="tracking_mirror", seed=1)
    x = np.random.default_rng(0).normal(size=(64, 400)).astype("float32")
    step, expected, errors = tf.function(lambda: layer(x, training=True)), [], []
    for _ in range(160):
        step()
        w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
        expected.append(layer.rule_memory.numpy())
        errors.append(np.sum((w - b) ** 2) / np.sum(w**2))
    errors_known, *_, due = np.transpose(expected)
    assert 0.5 < errors_known[0] / errors[0] < 2 and not due.any()
    assert errors[0] > 2.0 and errors[-1] < errors[0] / 2, (errors[0], errors[-1])


class _Forgetful(rules.Rule):
    name = "forgetful"
    memory = (0.0,)

    def __init__(self, given):
        self.given = given

    def update(self, state):
        return self.given(state)


@pytest.mark.parametrize(
    "given, message",
    [
        (lambda state: state.feedback_kernel, "it must give a pair, the new B and the new memory"),
        (lambda state: (state.feedback_kernel, tf.zeros([2])), r"tensor of shape \(1,\)"),
    ],
)
def test_an_update_without_its_memory_is_told(given, message):
    layer = layers.Dense(3, rule=_Forgetful(given))
    with pytest.raises(UserError, match=message):
        layer(np.ones((4, 5), "float32"), training=True)
