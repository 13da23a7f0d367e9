"""Node perturbation: one draw against finite differences, many draws against backprop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import compile_network, cross_entropy, data, network, train
from tfcredit import convert, layers, models
from tfcredit import data as sets
from tfcredit.errors import UserError
from tfcredit.rules import LayerState, NodePerturbation
from tfcredit.seeding import derive
from tfcredit.training.trainer import Trainer

L = keras.layers


def tiny(stddev, seed=0):
    keras.utils.set_random_seed(seed)
    made = [
        layers.Dense(n, activation, rule=NodePerturbation(stddev), bias_initializer="normal")
        for n, activation in ((4, "tanh"), (5, "tanh"), (3, None))
    ]
    return models.wire(keras.Sequential([keras.Input((6,)), *made]))


def gradients(model, x, labels):
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = cross_entropy()(labels, model(x, training=True))
    return [g.numpy() for g in tape.gradient(loss, [v.value for v in variables])]


def sample():
    return np.random.default_rng(0).normal(size=(1, 6)).astype("float32"), np.array([1])


@pytest.mark.parametrize("stddev, tolerance", [(1e-3, 1e-2), (0.1, 1e-4)])
def test_one_draw_is_the_change_of_the_loss_times_noise(stddev, tolerance):
    """In NumPy's float64; for small noise against the difference of two losses."""
    model, (x, labels) = tiny(stddev), sample()
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    noise = []
    for index, layer in enumerate(dense):
        seed = derive(layer.seed, "perturbation", index)
        state = LayerState(*[None] * 7, seed, tf.constant(0))
        noise.append(state.noise((1, layer.units), tf.float32).numpy().astype("float64"))

    def run(scale):
        """The logits, and the input of each layer."""
        inputs, h = [], x.astype("float64")
        for layer, xi in zip(dense, noise, strict=True):
            inputs.append(h)
            h = h @ layer.kernel.numpy() + layer.bias.numpy() + scale * xi
            h = np.tanh(h) if layer is not dense[-1] else h
        return h[0], inputs

    def loss(logits):
        return np.log(np.exp(logits).sum()) - logits[labels[0]]

    (clean, _), (noisy, inputs) = run(0.0), run(stddev)
    error = np.exp(clean) / np.exp(clean).sum() - np.eye(3)[labels[0]]
    small = stddev < 0.01
    change = loss(noisy) - loss(clean) if small else error @ (noisy - clean)
    expected = []
    for h, xi in zip(inputs, noise, strict=True):
        expected += [h.T @ (change / stddev * xi), change / stddev * xi[0]]
    for mine, theirs in zip(gradients(model, x, labels), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_the_mean_of_many_draws_is_the_gradient():
    """Within the Monte-Carlo error: deviations over standard errors are of standard deviation 1."""
    copies, calls = 500, 60
    model, (x, labels) = tiny(0.02), sample()
    plain = convert.to_backprop(model)
    true = np.concatenate([g.ravel() for g in gradients(plain, x, labels)])
    many, same = np.repeat(x, copies, 0), np.repeat(labels, copies)
    draws = [
        np.concatenate([g.ravel() for g in gradients(model, many, same)]) for _ in range(calls)
    ]
    error = np.std(draws, 0, ddof=1) / calls**0.5
    deviations = (np.mean(draws, 0) - true) / error
    assert np.abs(deviations).max() < 4.5 and 0.6 < np.sqrt(np.mean(deviations**2)) < 1.4
    assert np.linalg.norm(error) < 0.2 * np.linalg.norm(true)  # so that the bar means something


def test_convolutions_and_layers_that_are_called_twice():
    """The mean against backprop's gradient, in its direction."""
    rule = NodePerturbation(0.02)
    inputs = keras.Input((4, 4, 2))
    conv = layers.Conv2D(2, 3, padding="same", activation="tanh", rule=rule)
    x = L.Flatten()(conv(conv(inputs)))
    model = models.wire(keras.Model(inputs, layers.Dense(2, rule=rule)(x)))
    plain = convert.to_backprop(model)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("float32")
    true = gradients(plain, x, np.array([1]))
    many = np.repeat(x, 5000, 0), np.ones(5000, "int32")
    draws = [gradients(model, *many) for _ in range(8)]
    for index, wanted in enumerate(true):
        found = np.mean([draw[index] for draw in draws], 0)
        assert np.linalg.norm(found - wanted) < 0.2 * np.linalg.norm(wanted)


def test_noise_is_a_function_of_seed_and_step():
    (x, labels), other = sample(), tiny(0.1, seed=1)
    model, again = tiny(0.1), tiny(0.1)
    first, second = gradients(model, x, labels), gradients(model, x, labels)
    for a, b, c in zip(first, gradients(again, x, labels), second, strict=True):
        assert (a == b).all() and (a != c).any()
    assert int(model.perturbation_step) == 2
    other.set_weights(tiny(0.1).get_weights())
    assert (gradients(other, x, labels)[0] != first[0]).any()
    model(x)
    assert int(model.perturbation_step) == 2


def test_inference_is_the_plain_networks():
    model, (x, _) = tiny(0.5), sample()
    np.testing.assert_array_equal(model(x), convert.to_backprop(model)(x))
    np.testing.assert_array_equal(model(x, training=True), model(x))


def test_conversion_saving_and_back(tmp_path):
    plain = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            L.Conv2D(4, 3, activation="relu"),
            L.BatchNormalization(trainable=False),
            L.Flatten(),
            L.Dense(3),
        ],
        name="plain",
    )
    x, _ = data(1)
    model = convert.to_feedback(plain, "node_perturbation(stddev=0.05)", seed=1)
    assert {record["rule"] for record in convert.report(model)} == {"node_perturbation"}
    np.testing.assert_array_equal(model(x), plain(x))
    compile_network(model)
    kernel = model.layers[1].kernel.numpy()
    train(model, 2)
    assert (model.layers[1].kernel.numpy() != kernel).any()
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert type(loaded) is models.PerturbedNetwork and int(loaded.perturbation_step) == 2
    results = []
    for each in (model, loaded):
        train(each, 2, first=2)
        results.append(each.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    back = convert.to_backprop(model)
    np.testing.assert_array_equal(back(x), model(x))
    assert back.name == "plain" and len(back.weights) == len(plain.weights)
    assert {type(layer).__module__.split(".")[0] for layer in back.layers} == {"keras"}
    with pytest.raises(UserError, match="'node_perturbation' already"):
        convert.to_feedback(model)
    with pytest.raises(UserError, match="wired already"):
        models.wire(model)


def test_the_runners_checkpoints_hold_the_step():
    model = models.get("fc", 10, (8, 8, 1), "node_perturbation", widths=8, seed=0)
    model.compile("sgd")
    assert sum("perturbation_step" in name for name in Trainer(model).state) == 1


def test_mixed_precision_with_a_loss_scale():
    changes = []
    for policy in (None, "mixed_float16"):
        model = network("node_perturbation", policy)
        optimizer = keras.optimizers.SGD(0.05)
        if policy:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 1024.0)
        compile_network(model, optimizer)
        before = [v.numpy() for v in model.trainable_variables]
        train(model, 1)
        after = [v.numpy() for v in model.trainable_variables]
        pairs = zip(after, before, strict=True)
        changes.append(np.concatenate([(a - b).ravel() for a, b in pairs]))
    full, half = changes
    assert np.linalg.norm(half - full) < 0.1 * np.linalg.norm(full) > 0


@pytest.mark.slow
@pytest.mark.multi_device
def test_two_devices_draw_their_own_noise_and_agree(two_cpus):
    printed = two_cpus("""
import numpy as np
from tests.conformance.descriptors import compile_network, network, train
with strategy.scope():
    model = compile_network(network("node_perturbation"))
    before = model.get_weights()
    train(model, 2)
replicas = [strategy.experimental_local_results(v.value) for v in model.weights]
assert all(np.array_equal(*map(np.asarray, both)) for both in replicas)
(step, _) = strategy.experimental_local_results(model.perturbation_step.value)
print(int(step), np.abs(model.get_weights()[0] - before[0]).max() > 0)

@tf.function
def noise():
    from tfcredit.models.perturbation import _perturb
    layer = model.layers[1]
    return strategy.run(lambda: _perturb(layer, tf.zeros((2, 6, 6, 2)), 3, tf.constant(0))[0])
one, two = strategy.experimental_local_results(noise())
print(np.abs(one.numpy() - two.numpy()).max() > 0)
""")
    assert printed.split() == ["2", "True", "True"]


def sequential(*made, shape=(5,)):
    return keras.Sequential([keras.Input(shape), *made])


NP = {"rule": "node_perturbation"}
MISTAKES = {
    "another rule": (lambda: sequential(layers.Dense(4), layers.Dense(3, **NP)), "would not learn"),
    "plain Keras": (lambda: sequential(L.Dense(4), layers.Dense(3, **NP)), "would not learn"),
    "direct feedback": (
        lambda: sequential(
            layers.Dense(4, rule="direct_feedback_alignment"), layers.Dense(3, **NP)
        ),
        "would not learn",
    ),
    "einsum": (lambda: sequential(layers.EinsumDense("ab,bc->ac", 3, **NP)), "knows no products"),
    "batch norm": (
        lambda: sequential(layers.Dense(4, **NP), L.BatchNormalization(), layers.Dense(3, **NP)),
        "freeze it",
    ),
    "nested": (lambda: sequential(sequential(layers.Dense(3, **NP))), "does not reach it"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name):
    make, told = MISTAKES[name]
    with pytest.raises(UserError, match=told):
        models.wire(make())


@pytest.mark.parametrize("stddev", [0, -1.0, float("nan"), "a"])
def test_a_wrong_stddev_is_told(stddev):
    with pytest.raises(UserError, match="stddev=.* must be a positive finite number"):
        NodePerturbation(stddev)


@pytest.mark.slow
def test_it_learns():
    keras.utils.set_random_seed(0)
    options = {"widths": 64, "depth": 1, "activation": "tanh", "seed": 0}
    model = models.get("fc", 10, (28, 28, 1), "node_perturbation", **options)
    model.compile(keras.optimizers.SGD(0.03, 0.9), cross_entropy(), metrics=["accuracy"])
    images = sets.get("embedded", augment=False)
    for epoch in range(2):
        model.fit(images.train(128, 0, epoch), shuffle=False, verbose=0)
    assert model.evaluate(images.evaluation(500), verbose=0)[1] > 0.4  # chance is 0.1
