"""The observables, each by its definition."""

import keras
import numpy as np
import pytest

from tfcredit import analysis, layers, models

X = np.random.RandomState(0).normal(size=(5, 4)).astype("float32")


def network(rule):
    model = keras.Sequential([keras.Input((4,))])
    model.add(layers.Dense(6, "tanh", rule=rule, seed=1, name="first"))
    model.add(layers.Dense(3, rule=rule, seed=2, name="second"))
    return model


@pytest.mark.parametrize("rule", ["backprop", "feedback_alignment"])
def test_statistics_of_a_layer(rule):
    model = network(rule)
    first = model.layers[0]
    records = analysis.Observables(X)(model)
    assert [len(record) for record in records] == [2 + 45] * 2
    w = np.array(first.kernel, float)
    outputs = np.tanh(X @ w + np.array(first.bias))
    carrier = w if rule == "backprop" else np.array(first.feedback_kernel, float)
    changes = ((1 - outputs**2) @ carrier.T).sum(1) / 6
    square = outputs**2
    centred = square - square.mean(1, keepdims=True)
    ordered = np.sort(np.abs(w).ravel())
    expected = {
        "weightraw_mean": w.mean(),
        "weightsq_norm": np.sqrt((w**4).sum()),
        "weightabs_median": ordered[12],  # of 24 the place 11.5, to the even side
        "weightabs_thirdquartile": ordered[17],  # 17.25
        "actraw_norm": np.linalg.norm(outputs, axis=1).mean(),
        "actsq_var": (centred**2).mean(1).mean(),
        "actsq_kurtosis": ((centred**4).mean(1) / (centred**2).mean(1) ** 2).mean(),
        "gradavgraw_id": changes.mean(),
        "gradavgsq_id": (changes**2).mean(),
        "gradavgabs_id": np.abs(changes).mean(),
    }
    assert {k: records[0][k] for k in expected} == pytest.approx(expected, rel=1e-5)
    # Of six values the median is the third or the fourth: 3 (mean - median) / std.
    third = np.sort(outputs, 1)[:, 2:4]
    skews = 3 * (outputs.mean(1)[:, None] - third) / outputs.std(1)[:, None]
    assert skews.min(1).mean() - 1e-5 <= records[0]["actraw_skew"] <= skews.max(1).mean() + 1e-5


def test_layers_that_send_no_error_down_change_nothing_there():
    model = models.wire(network("direct_feedback_alignment"), seed=1)
    records = analysis.Observables(X)(model)
    assert [record["gradavgabs_id"] for record in records] == [0.0, 0.0]
    assert all(record["actabs_mean"] > 0 for record in records)


def test_kernels_of_recurrent_layers_are_left_out():
    model = keras.Sequential([keras.Input((4, 3)), layers.LSTM(4, rule="feedback_alignment")])
    model.add(layers.Dense(2, rule="feedback_alignment", name="top"))
    x = np.random.RandomState(0).normal(size=(5, 4, 3)).astype("float32")
    (record,) = analysis.Observables(x)(model)
    assert record["layer"] == "top" and len(record) == 2 + 45


def test_constant_weights_have_no_skew():
    model = network("brsf")
    model.layers[1].kernel.assign(np.ones((6, 3)))
    record = analysis.Observables(X)(model)[1]
    assert np.isnan([record["weightraw_skew"], record["weightraw_kurtosis"]]).all()
    assert record["weightraw_var"] == 0.0 and record["weightraw_norm"] == pytest.approx(18**0.5)
