"""Accuracy under attack: worst cases in closed form, and gradients by finite differences."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import analysis, convert, layers, models
from tfcredit.errors import UserError

pytest.importorskip("art", reason="an extra, `robustness`")

SHAPE = (3, 4, 2)
EPSILONS = (0.02, 0.1, 0.3)
MEAN, STD = (0.4, 0.6), (0.5, 0.25)


def network(*units):
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(n, "tanh", rule="feedback_alignment") for n in units[:-1]]
    dense.append(layers.Dense(units[-1], rule="feedback_alignment"))
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), *dense])


def labelled(model, n=60):
    """Images, and labels of which some nine in ten are what the network says."""
    images = np.random.default_rng(1).random((n, *SHAPE), "float32")
    said = forward(model, images).argmax(1)
    return images, np.where(np.arange(n) % 10, said, (said + 1) % (said.max() + 1))


def forward(model, pixels):
    """The logits of a network of dense layers, in float64."""
    h = ((pixels - np.array(MEAN)) / np.array(STD)).reshape(len(pixels), -1)
    dense = [layer for layer in model.layers if hasattr(layer, "kernel")]
    for layer in dense:
        h = h @ np.array(layer.kernel, float) + np.array(layer.bias, float)
        h = np.tanh(h) if layer is not dense[-1] else h
    return h


def accuracies(model, images, labels, attack, **options):
    options = {"epsilons": EPSILONS, "mean": MEAN, "std": STD, "batch_size": 40} | options
    clean, *records = analysis.robust_accuracy(model, images, labels, attacks=[attack], **options)
    assert (clean["attack"], clean["epsilon"]) == ("none", 0.0)
    assert [(r["attack"], r["epsilon"]) for r in records] == [(attack, e) for e in EPSILONS]
    return [clean["accuracy"]] + [record["accuracy"] for record in records]


def by_hand(model, images, labels, change):
    """Accuracy at 0 and at each epsilon, with `change` the signs of the attack on each pixel."""
    found, images = [], images.astype(float)
    before = forward(model, images).argmax(1) == labels
    for epsilon in (0.0, *EPSILONS):
        attacked = np.clip(images + epsilon * change, 0, 1)
        found.append((before & (forward(model, attacked).argmax(1) == labels)).mean())
    return found


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.every(2)
def test_of_a_linear_network_the_worst_case_is_found(attack, loss):
    # With two classes the margin is linear in the pixels: each goes its own way as far as it may.
    model = network(2)
    images, labels = labelled(model)
    kernel = np.array(model.layers[-1].kernel, float)
    to_other = (kernel[:, 1] - kernel[:, 0])[None] * (1 - 2 * labels[:, None])
    expected = by_hand(model, images, labels, np.sign(to_other).reshape(images.shape))
    assert expected[0] > expected[1] > expected[2] > expected[3]
    # In 10 steps of epsilon / 4 every pixel of PGD arrives, wherever it began.
    found = accuracies(model, images, labels, attack, loss=loss)
    assert found == pytest.approx(expected)


def test_the_gradient_is_the_forward_networks_own():
    model = network(16, 12, 4)
    images, labels = labelled(model)

    def loss(pixels):
        z = forward(model, pixels)
        z = z - z.max(1, keepdims=True)
        return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]

    change = np.zeros(images.shape)
    for place in np.ndindex(SHAPE):
        step = np.zeros(SHAPE)
        step[place] = 1e-5
        change[(slice(None), *place)] = loss(images + step) - loss(images - step)
    expected = by_hand(model, images, labels, np.sign(change))
    found = accuracies(model, images, labels, "fgsm")
    assert found == pytest.approx(expected)
    assert accuracies(convert.to_backprop(model), images, labels, "fgsm") == found

    x = tf.constant((images - np.array(MEAN)) / np.array(STD), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        task = keras.losses.sparse_categorical_crossentropy(labels, model(x), from_logits=True)
    through_feedback = by_hand(model, images, labels, np.sign(tape.gradient(task, x)))
    assert sum(through_feedback) > sum(found) + 0.3


@pytest.mark.slow
def test_pgd_is_the_stronger_attack_on_a_curved_network():
    model = network(16, 12, 4)
    images, labels = labelled(model, n=200)
    fgsm, pgd = (accuracies(model, images, labels, name) for name in ("fgsm", "pgd"))
    assert pgd[0] == fgsm[0]
    assert all(p <= f for p, f in zip(pgd, fgsm, strict=True))


def test_the_margin_has_a_gradient_where_cross_entropy_is_flat():
    model = network(2)
    images, labels = labelled(model)
    margin = accuracies(model, images, labels, "fgsm", loss="margin")
    model.layers[-1].set_weights([1e5 * w for w in model.layers[-1].get_weights()])
    assert accuracies(model, images, labels, "fgsm", loss="margin") == margin
    assert accuracies(model, images, labels, "fgsm")[-1] > margin[-1]


def test_a_convolutional_network_is_left_as_it_was():
    model = models.get("conv", 10, (8, 8, 1), rule="info_alignment", seed=0)
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), "uint8")
    labels = model.predict(images / 255, verbose=0).argmax(1)[:, None]
    weights = model.get_weights()

    def records(network, pixels):
        return analysis.robust_accuracy(network, pixels, labels, [0.02], ["fgsm"], batch_size=20)

    found = records(model, images)
    assert found[0]["accuracy"] == 1.0 > found[1]["accuracy"]
    assert found == records(convert.to_backprop(model), (images / 255).astype("float32"))
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_start_is_seeded_and_numpys_own_generator_left_alone():
    model = network(16, 4)
    images, labels = labelled(model, n=200)
    state = np.random.get_state()[1].copy()

    def found(seed):
        options = {"steps": 1, "step_size": 1e-3, "seed": seed, "batch_size": 100}
        return accuracies(model, images, labels, "pgd", **options)

    assert found(0) == found(0) != found(1)
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": np.full((2, *SHAPE), -0.5)}, "-0.5"),
        ({"images": np.zeros((0, *SHAPE)), "labels": []}, "nothing"),
        ({"images": np.zeros((2, 24))}, "shape"),
        ({"labels": [0, 7]}, "7"),
        ({"epsilons": [8]}, "8 / 255"),
        ({"attacks": ["carlini"]}, "fgsm, pgd"),
        ({"loss": "hinge"}, "cross_entropy, margin"),
        ({"steps": 0}, "1 step"),
        ({"step_size": 0.0}, "above 0"),
        ({"batch_size": 0}, "batch size 0"),
    ],
)
def test_what_can_not_be_attacked(changes, words):
    given = {"images": np.zeros((2, *SHAPE)), "labels": [0, 1], "epsilons": [0.1]}
    with pytest.raises(UserError, match=words):
        analysis.robust_accuracy(network(3), **given | changes)


@pytest.mark.parametrize(
    ("top", "words"),
    [(keras.layers.Softmax(), "probabilities"), (keras.layers.Reshape((3, 1)), "shape")],
)
def test_outputs_that_are_no_logits(top, words):
    model = keras.Sequential([network(3), top])
    with pytest.raises(UserError, match=words):
        analysis.robust_accuracy(model, np.zeros((2, *SHAPE)), [0, 1], [0.1])


def test_without_the_toolbox_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "art.attacks", None)
    with pytest.raises(UserError, match=r"pip install 'tfcredit\[robustness\]'"):
        analysis.robust_accuracy(network(3), np.zeros((2, *SHAPE)), [0, 1], [0.1])
