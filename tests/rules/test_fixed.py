"""Feedback of fixed direction or signs: W's norm, an angle to the first W, sign concordance."""

import keras
import numpy as np
import pytest

from tests.conformance.descriptors import LAYERS, compile_network, feedback_layers, network, train
from tfcredit import convert, layers
from tfcredit.analysis.alignment import angle
from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle


def test_normalised_feedback_keeps_its_direction_and_has_ws_norm():
    model = compile_network(network("normalized_feedback_alignment"))
    mine = feedback_layers(model)
    first = [each.feedback_kernel.numpy() for each in mine]
    train(model, 2)
    kernels = [each.kernel.numpy() for each in mine]
    train(model, 1, first=2)
    for each, b, w in zip(mine, first, kernels, strict=True):
        expected = b * np.linalg.norm(w) / np.linalg.norm(b)
        np.testing.assert_allclose(each.feedback_kernel.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("degrees", [0, 30, 45.0, 120])
@pytest.mark.parametrize("name", ["dense", "grouped", "transposed", "einsum"])
def test_soft_alignment_starts_at_its_angle_and_stays(name, degrees):
    make, shape = LAYERS[name]
    layer = make(rule=f"soft_alignment(angle={degrees})", seed=3)
    layer.build((None, *shape))
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    np.testing.assert_allclose(angle(w, b), degrees, atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(b), np.linalg.norm(w), rtol=1e-5)
    assert not layer.feedback_kernel.trainable


def test_a_converted_network_has_the_angle_to_its_own_kernels():
    plain = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(4, 3), keras.layers.Dense(3)]
    )
    for variable in plain.weights:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    for options in (
        {"rule": "soft_alignment(angle=30)"},
        {"rule": "feedback_alignment", "feedback_initializer": AtAngle(30, seed=1)},
    ):
        model = convert.to_feedback(plain, seed=1, **options)
        for each in feedback_layers(model):
            np.testing.assert_allclose(angle(each.kernel, each.feedback_kernel), 30, atol=0.1)


@pytest.mark.parametrize("initializer", ["he_normal", AtAngle(30)])
def test_soft_alignment_refuses_another_initializer(initializer):
    with pytest.raises(UserError, match=r"rule soft_alignment\(angle=45\) contradict"):
        layers.Dense(3, rule="soft_alignment", feedback_initializer=initializer)
    layers.Dense(3, rule="soft_alignment", feedback_initializer=AtAngle(45, seed=1))


@pytest.mark.parametrize("variant", ["usf", "brsf", "frsf"])
@pytest.mark.parametrize("concordance", [0.0, 0.3, 0.8, 1.0])
def test_concordance_is_the_share_of_equal_signs(concordance, variant):
    rule = f"sign_symmetry(variant='{variant}', concordance={concordance})"
    one, other = (layers.Dense(70, rule=rule, seed=seed) for seed in (1, 2))
    one.build((None, 50)), other.build((None, 50))
    masks = []
    for layer in (one, one, other):
        w = np.random.default_rng(len(masks)).normal(size=(50, 70))
        layer.kernel.assign(w)
        layer(np.zeros((1, 50)), training=True)
        masks.append(np.sign(layer.feedback_kernel.numpy()) == np.sign(w))
    assert all(abs(mask.mean() - concordance) < 0.03 for mask in masks)
    assert (masks[0] == masks[1]).all()  # the same synapses, whatever W is
    if 0 < concordance < 1:
        assert abs((masks[0] == masks[2]).mean() - concordance**2 - (1 - concordance) ** 2) < 0.05


@pytest.mark.parametrize(
    "rule, message",
    {
        "sign_symmetry(concordance=1.1)": "concordance=1.1 must be a finite number >= 0",
        "frsf(concordance='all')": "concordance=.all. must be a finite number",
        "soft_alignment(angle=200)": "angle=200 must be .* degrees >= 0 and at most 180",
        "soft_alignment(angle=None)": "angle=None must be a finite number of degrees",
    }.items(),
)
def test_wrong_arguments_are_refused(rule, message):
    with pytest.raises(UserError, match=message):
        layers.Dense(3, rule=rule)
