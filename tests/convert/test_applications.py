"""Weights of `keras.applications` into the reference networks."""

import functools

import keras
import numpy as np
import pytest

from tests.crossing import crossed
from tfcredit import convert, models
from tfcredit.errors import UserError

SHAPE = (64, 64, 3)


@functools.lru_cache(maxsize=2)  # no test changes it
def source(name):
    """A network whose biases and batch statistics are not those of an untrained one."""
    model = getattr(keras.applications, name)(weights=None, classes=10, input_shape=SHAPE)
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("bias", "moving_mean", "beta"):
            variable.assign(random.normal(size=variable.shape))
    return model


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("ResNet50", "resnet50"),
        ("ResNet50V2", "resnet50v2"),
        pytest.param("ResNet101", "resnet101", marks=pytest.mark.slow),
        pytest.param("ResNet152V2", "resnet152v2", marks=pytest.mark.slow),
    ],
)
def test_every_kernel_is_taken(theirs, ours):
    plain = source(theirs)
    made = models.get(ours, 10, SHAPE, rule="feedback_alignment")
    feedback = made.get_layer("conv0").feedback_kernel.numpy()
    records = convert.load_applications_weights(made, plain)
    assert {record["layer"] for record in records} == {x.name for x in made.layers if x.weights}
    for record in records:
        assert "shapes" not in record["note"]
        if hasattr(made.get_layer(record["layer"]), "kernel"):
            one, other = plain.get_layer(record["source"]), made.get_layer(record["layer"])
            np.testing.assert_array_equal(one.kernel, other.kernel)
    np.testing.assert_array_equal(made.get_layer("conv0").feedback_kernel, feedback)
    left_out = [record["source"] for record in records if record["note"]]
    assert (not left_out) == (not ours.endswith("v2"))
    assert all(name.endswith(("_0_conv", "_3_conv")) or name == "conv1_conv" for name in left_out)


def test_batch_norm_takes_up_the_bias():
    plain, made = source("ResNet50"), models.get("resnet50", 10, SHAPE)
    convert.load_applications_weights(made, plain)
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 256)).astype("float32")
    expected = actual = x
    for name in ("conv2_block2_1_conv", "conv2_block2_1_bn"):
        expected = plain.get_layer(name)(expected)
    for name in ("block_group1_1_conv1", "block_group1_1_conv1_batch_normalization"):
        actual = made.get_layer(name)(actual)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)  # the epsilons differ


def test_another_number_of_classes_leaves_the_last_layer():
    made = models.get("resnet50", 7, SHAPE)
    before = made.get_layer("dense").kernel.numpy()
    records = convert.load_applications_weights(made, source("ResNet50"))
    assert [r["layer"] for r in records if r["note"]] == ["dense"]
    assert "(2048, 10)" in records[-1]["note"] and "(2048, 7)" in records[-1]["note"]
    np.testing.assert_array_equal(made.get_layer("dense").kernel, before)


@pytest.mark.parametrize(
    "theirs",
    crossed(["ResNet101", "ResNet50V2", "MobileNetV2"], quick=lambda name: name == "MobileNetV2"),
)
def test_other_networks_are_refused(theirs):
    made = models.get("resnet50", 10, SHAPE)
    before = made.get_weights()
    with pytest.raises(UserError, match="not of one depth and version"):
        convert.load_applications_weights(made, source(theirs))
    for one, other in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
