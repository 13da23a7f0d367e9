import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers import toy
from tfcredit import optimizers
from tfcredit.errors import UserError
from tfcredit.optimizers import PartitionedOptimizer

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
MODES = [{}, {"run_eagerly": True}, {"jit_compile": True}]
MODE_IDS = ["graph", "eager", "jit"]


def pair(**options):
    return PartitionedOptimizer(SGD(0.1, momentum=0.9, nesterov=True), Adam(0.02), **options)


def gradients(network, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((network(x, training=True) - y) ** 2) + sum(network.losses)
    return tape.gradient(loss, [v.value for v in network.trainable_variables])


def by_hand(network, forward, feedback):
    """Train with two independent optimizers, each on its own list of variables."""
    for x, y in zip(*(np.split(array, 4) for array in toy.data()), strict=True):
        pairs = list(zip(gradients(network, x, y), network.trainable_variables, strict=True))
        is_feedback = [v.name == "feedback_kernel" for _, v in pairs]
        forward.apply_gradients([p for p, b in zip(pairs, is_feedback, strict=True) if not b])
        feedback.apply_gradients([p for p, b in zip(pairs, is_feedback, strict=True) if b])
    return toy.weights(network)


@pytest.fixture(scope="module")
def expected():
    return by_hand(toy.model(), SGD(0.1, momentum=0.9, nesterov=True), Adam(0.02))


@pytest.mark.parametrize("mode", MODES, ids=MODE_IDS)
def test_fit_equals_two_optimizers(expected, mode):
    network = toy.fit(toy.model(pair(), **mode))
    toy.assert_same(toy.weights(network), expected, atol=2e-6)
    for optimizer in (network.optimizer, network.optimizer.forward, network.optimizer.feedback):
        assert int(optimizer.iterations) == 4


@pytest.mark.parametrize(
    ("call", "raw"),
    [
        ("train_on_batch", False),
        ("apply_gradients", False),
        ("apply_gradients", True),
        ("apply", False),
        ("apply_built", False),
    ],
)
def test_own_loops_equal_two_optimizers(expected, call, raw):
    network, optimizer = toy.model(), pair()
    variables = network.trainable_variables
    if call == "train_on_batch":
        network.compile(optimizer, "mse")
    if call == "apply_built" or raw:
        optimizer.build(variables)
    targets = [v.value for v in variables] if raw else variables

    @tf.function
    def step(x, y):
        grads = gradients(network, x, y)
        if call == "apply_gradients":
            optimizer.apply_gradients(zip(grads, targets, strict=True))
        else:
            optimizer.apply(grads, targets if call == "apply" else None)

    for x, y in zip(*(np.split(array, 4) for array in toy.data()), strict=True):
        network.train_on_batch(x, y) if call == "train_on_batch" else step(x, y)
    toy.assert_same(toy.weights(network), expected, atol=2e-6)


def test_follower_gets_exactly_the_forward_update():
    network = toy.model(follows=True)
    optimizer = PartitionedOptimizer(SGD(0.1, momentum=0.9), Adam(0.5))
    optimizer.build(network.trainable_variables)
    before = toy.weights(network)
    for _ in range(3):
        grads = {v.path: tf.ones(v.shape) for v in network.trainable_variables}
        optimizer.apply([grads[v.path] for v in network.trainable_variables])
    change = {path: value - before[path] for path, value in toy.weights(network).items()}
    for layer in ("first", "second"):
        np.testing.assert_allclose(
            change[f"{layer}/feedback_kernel"], change[f"{layer}/kernel"], atol=1e-6
        )
    assert len(optimizer.feedback.variables) == 2  # step counter and learning rate, no slots


@pytest.mark.parametrize("role", ["forward", "feedback"])
@pytest.mark.parametrize("name", optimizers.names())
def test_a_group_may_be_empty(name, role):
    empty = {"forward": "sgd", "feedback": "sgd", role: optimizers.get(name, 0.01)}
    optimizer = PartitionedOptimizer(**empty)
    variables = [
        v
        for v in toy.model().trainable_variables
        if (v.name == "feedback_kernel") == (role == "forward")
    ]
    before = [v.numpy() for v in variables]
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    assert all((v.numpy() != b).all() for v, b in zip(variables, before, strict=True))
    assert int(optimizer.forward.iterations) == int(optimizer.feedback.iterations) == 1


def test_a_group_may_have_no_gradients(recwarn):
    network = toy.fit(toy.model(pair(), learn=False))
    assert int(network.optimizer.feedback.iterations) == 4
    start = toy.weights(toy.model())
    for path, value in toy.weights(network).items():
        assert np.array_equal(value, start[path]) == path.endswith("feedback_kernel")
    assert not [w for w in recwarn if "Gradients do not exist" in str(w.message)]


def test_feedback_may_rest():
    """Then a step without its gradients is none to it: no bias correction, no schedule goes on."""
    network, optimizer = toy.model(), pair(feedback_rests=True)
    again = PartitionedOptimizer.from_config(optimizer.get_config())
    assert again.feedback_rests and not pair().feedback_rests
    variables, alone = network.trainable_variables, toy.model()
    expected = Adam(0.02)
    kernels = [v for v in alone.trainable_variables if v.name == "feedback_kernel"]
    for step in range(5):
        grads = [tf.fill(v.shape, 0.1 + step) for v in variables]
        taught = step in (0, 3)
        rest = [
            g if taught or v.name != "feedback_kernel" else None
            for g, v in zip(grads, variables, strict=True)
        ]
        optimizer.apply(rest, variables)
        if taught:
            expected.apply([tf.fill(v.shape, 0.1 + step) for v in kernels], kernels)
    assert int(optimizer.iterations) == int(optimizer.forward.iterations) == 5
    assert int(optimizer.feedback.iterations) == 2
    for variable in kernels:
        np.testing.assert_array_equal(toy.weights(network)[variable.path], variable.numpy())


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of the plain SGD
def test_moving_averages_survive_a_group_without_gradients():
    optimizer = PartitionedOptimizer(SGD(0.1, use_ema=True), SGD(0.1, use_ema=True))
    network = toy.fit(toy.model(optimizer, learn=False))
    start = toy.weights(toy.model())
    for path, value in toy.weights(network).items():
        assert np.array_equal(value, start[path]) == path.endswith("feedback_kernel")
    alone = toy.fit(toy.model(SGD(0.1, use_ema=True), learn=False))
    toy.assert_same(toy.weights(network), toy.weights(alone), atol=1e-6)


def test_gradients_all_missing():
    network, optimizer = toy.model(), pair()
    with pytest.raises(UserError, match="All 6 gradients"):
        optimizer.apply([None] * 6, network.trainable_variables)
    with pytest.raises(UserError, match="pass the variables too"):
        optimizer.apply([tf.ones(3)])
    optimizer.apply([])


@pytest.mark.parametrize("mode", MODES, ids=MODE_IDS)
def test_gradient_accumulation_of_both_groups(mode):
    def parts(steps):
        return (
            SGD(0.1, momentum=0.9, gradient_accumulation_steps=steps),
            Adam(0.02, gradient_accumulation_steps=steps),
        )

    network = toy.fit(toy.model(PartitionedOptimizer(*parts(2)), **mode))
    toy.assert_same(toy.weights(network), by_hand(toy.model(), *parts(2)), atol=2e-6)


def test_gradient_accumulation_is_refused_outside():
    with pytest.raises(TypeError, match="gradient_accumulation_steps"):
        pair(gradient_accumulation_steps=2)


@pytest.mark.parametrize("factor", [None, 128.0])
def test_static_loss_scale(expected, factor):
    network = toy.fit(toy.model(pair(loss_scale_factor=factor)))
    toy.assert_same(toy.weights(network), expected, atol=5e-6)


def test_clipping_and_weight_decay_stay_inside(expected):
    parts = (
        SGD(0.1, global_clipnorm=0.2, weight_decay=0.1),
        Adam(0.02, clipvalue=0.01, weight_decay=0.2),
    )
    again = [type(part).from_config(part.get_config()) for part in parts]
    network = toy.fit(toy.model(PartitionedOptimizer(*parts)))
    toy.assert_same(toy.weights(network), by_hand(toy.model(), *again), atol=2e-6)


def noisy():
    return optimizers.NoisyOptimizer(SGD(0.5, weight_decay=0.1), variance=0.0)


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: PartitionedOptimizer(SGD(0.5, weight_decay=0.1), SGD(0.5, weight_decay=0.1)),
        noisy,
        lambda: PartitionedOptimizer(noisy(), noisy()),
    ],
    ids=["partitioned", "noisy", "nested"],
)
def test_exclude_from_weight_decay(make, saved):
    optimizer = make()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    if saved:
        optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    network = toy.model()
    network.set_weights([np.ones_like(w) for w in network.get_weights()])
    optimizer.apply([tf.zeros(v.shape) for v in network.weights], network.trainable_variables)
    for variable in network.weights:
        kept = 1.0 if variable.name == "bias" else 0.95
        np.testing.assert_allclose(variable.numpy(), kept, rtol=1e-6)
    with pytest.raises(UserError, match="before compile"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


def test_learning_rates():
    optimizer = pair()
    optimizer.learning_rate = 0.3
    optimizer.feedback.learning_rate = 0.4
    assert float(optimizer.learning_rate) == float(optimizer.forward.learning_rate)
    assert float(optimizer.learning_rate) == pytest.approx(0.3)
    assert float(optimizer.feedback.learning_rate) == pytest.approx(0.4)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    network = toy.fit(toy.model(optimizer), callbacks=[rates])
    assert float(network.optimizer.learning_rate) == pytest.approx(0.15)


def test_schedules_read_their_own_groups_steps():
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    network = toy.fit(toy.model(PartitionedOptimizer(SGD(decay), SGD(decay)), learn=False))
    assert float(network.optimizer.learning_rate) == 0.25
    assert float(network.optimizer.feedback.learning_rate) == 0.25


@pytest.mark.parametrize(
    ("forward", "feedback", "message"),
    [
        ("sdg", "adam", "did you mean 'sgd'"),
        ("sgd", None, "feedback is None"),
        ("sgd", {"class_name": "Nothing", "config": {}}, "feedback is 'Nothing'"),
        ("sgd", {"class_name": "SGD", "config": {"speed": 1}}, "Keras refuses"),
        ("sgd", SGD(loss_scale_factor=2.0), "loss_scale_factor=2.0"),
        (keras.optimizers.LossScaleOptimizer(SGD()), "sgd", "LossScaleOptimizer"),
        (keras.optimizers.MultiOptimizer(lambda v: None), "sgd", "MultiOptimizer"),
    ],
)
def test_unusable_parts(forward, feedback, message):
    with pytest.raises(UserError, match=message):
        PartitionedOptimizer(forward, feedback)


def test_one_instance_for_both():
    both = SGD(0.1)
    with pytest.raises(UserError, match="one SGD instance"):
        PartitionedOptimizer(both, both)
