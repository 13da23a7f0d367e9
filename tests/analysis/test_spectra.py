"""Spectra and effective ranks on matrices that are known."""

import keras
import numpy as np
import pytest

from tfcredit import analysis, layers

RANDOM = np.random.RandomState(0)


@pytest.mark.parametrize(
    ("values", "rank"),
    [
        (np.ones(7), 7.0),
        ([3.0, 0.0, 0.0], 1.0),
        ([1.0, 1.0, 0.0], 2.0),
        ([3.0, 1.0], 4 / 3**0.75),  # exp(H(3/4, 1/4))
        ([0.0, 0.0], np.nan),
        ([1.0, np.nan], np.nan),
    ],
)
def test_effective_rank_of_known_values(values, rank):
    assert analysis.effective_rank(values) == pytest.approx(rank, nan_ok=True)


def test_singular_values_of_what_is_not_finite():
    assert np.isnan(analysis.singular_values([[1.0, np.inf, 0.0], [0.0, 1.0, 0.0]])).all()


def test_kernels_of_known_rank():
    model = keras.Sequential([keras.Input((5,))])
    model.add(layers.Dense(5, rule="brsf", name="identity"))
    model.add(layers.Dense(4, rule="backprop", name="plain"))
    identity, plain = model.layers
    identity.kernel.assign(2 * np.eye(5))
    identity.feedback_kernel.assign(np.outer(np.arange(5), np.ones(5)))
    plain.kernel.assign(np.full((5, 4), np.nan))
    spectrum = analysis.spectra(model)
    ranks = analysis.effective_ranks(spectrum)
    assert ranks[0] == {
        "layer": "identity",
        "rule": "brsf",
        "rank_W": pytest.approx(5.0),
        "rank_B": pytest.approx(1.0, abs=1e-6),
        "rank_WtB": pytest.approx(1.0, abs=1e-6),
    }
    assert list(ranks[1]) == ["layer", "rule", "rank_W"] and np.isnan(ranks[1]["rank_W"])
    largest = [
        r["singular_value"] for r in spectrum if r["index"] == 0 and r["layer"] == "identity"
    ]
    b = np.sqrt(30.0 * 5.0)
    assert largest == pytest.approx([2.0, b, 2 * b])


CASES = {
    "dense": (layers.Dense(3), (4,)),
    "conv": (layers.Conv2D(4, (2, 3), groups=2), (5, 5, 6)),
    "transposed": (layers.Conv1DTranspose(4, 2), (5, 3)),
    "depthwise": (layers.DepthwiseConv2D((2, 3), depth_multiplier=2), (5, 5, 3)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 2, 5)), (6, 4)),
    "einsum of two": (layers.EinsumDense("abcd,cde->abe", (None, 5)), (6, 2, 3)),
    "keras": (keras.layers.Conv1DTranspose(4, 2), (5, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_column_is_what_one_output_sums(name):
    layer, shape = CASES[name]
    layer = layer.from_config(layer.get_config())
    layer.build((None, *shape))
    matrix = analysis.kernel_matrix(layer, layer.kernel)
    # The kernel with one column alone feeds one output feature alone.
    x = RANDOM.normal(size=(2, *shape)).astype("float32")
    features = np.asarray(layer(x)).reshape(-1, matrix.shape[1])
    kernel = np.array(layer.kernel)
    numbers = np.arange(kernel.size, dtype=float).reshape(kernel.shape)
    places = analysis.kernel_matrix(layer, numbers).astype(int)
    assert sorted(places.ravel()) == list(range(kernel.size))
    column = matrix.shape[1] // 2
    alone = np.zeros(kernel.size, "float32")
    alone[places[:, column]] = matrix[:, column]
    layer.kernel.assign(alone.reshape(kernel.shape))
    found = np.asarray(layer(x)).reshape(features.shape)
    np.testing.assert_allclose(found[:, column], features[:, column], rtol=1e-4, atol=1e-5)
    assert not np.delete(found, column, -1).any()
