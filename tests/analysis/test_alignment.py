"""Alignment measures on cases with known answers."""

import keras
import numpy as np
import pytest

from tfcredit import analysis, layers
from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle


@pytest.mark.parametrize(
    ("make", "degrees"),
    [
        (lambda w: w, 0.0),
        (lambda w: 2 * w, 0.0),
        (lambda w: -w, 180.0),
        (lambda w: w + 1e-7 * np.roll(w, 2), np.degrees(1e-7)),
    ],
)
def test_angle_of_known_cases(make, degrees):
    w = np.eye(4).ravel()
    assert analysis.angle(w, make(w)) == pytest.approx(degrees, abs=1e-12, rel=1e-6)


def test_angle_of_orthogonal_and_of_zero():
    assert analysis.angle([1.0, 0.0], [0.0, 3.0]) == pytest.approx(90.0)
    assert np.isnan(analysis.angle([1.0, 0.0], [0.0, 0.0]))


def test_alignment_lists_the_layers_with_a_feedback_kernel():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="inner", rule="feedback_alignment")], name="block"
    )
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(
                6, name="first", rule="symmetric_alignment", feedback_initializer=AtAngle(30.0)
            ),
            inner,
            layers.Dense(3, name="plain"),
            layers.Dense(2, name="last", rule="feedback_alignment"),
        ]
    )
    last = model.get_layer("last")
    last.feedback_kernel.assign(-2.0 * np.array(last.kernel))
    records = analysis.alignment(model)
    assert [record["layer"] for record in records] == ["first", "block/inner", "last"]
    assert records[0]["angle"] == pytest.approx(30.0, abs=1e-3)
    assert records[0]["norm_ratio"] == pytest.approx(1.0, rel=1e-5)
    assert records[0]["rule"] == "symmetric_alignment"
    assert records[2]["angle"] == pytest.approx(180.0)
    assert records[2]["norm_ratio"] == pytest.approx(2.0)
    assert records[2]["sign_agreement"] == 0.0
    assert 0.3 < records[1]["sign_agreement"] < 0.7  # independent


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernels_that_are_not_finite_give_nan(bad):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, rule="feedback_alignment")])
    model.layers[0].feedback_kernel.assign([[1.0, bad], [0.0, 1.0]])
    (record,) = analysis.alignment(model)
    assert np.isnan([record["angle"], record["sign_agreement"]]).all()
    assert not np.isfinite(record["norm_ratio"])
    model.layers[0].kernel.assign(np.zeros((2, 2)))
    assert np.isnan(analysis.alignment(model)[0]["norm_ratio"])


def test_alignment_needs_a_feedback_kernel():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)], name="plain")
    with pytest.raises(UserError, match="no layer of the model 'plain' has a feedback kernel"):
        analysis.alignment(model)
