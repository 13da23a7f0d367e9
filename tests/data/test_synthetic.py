import numpy as np
import pytest

from tfcredit import data
from tfcredit.data import Shard
from tfcredit.errors import UserError


def test_one_batch_is_repeated():
    found = data.get("synthetic", image_size=32)
    assert (found.classes, found.input_shape) == (1000, (32, 32, 3))
    assert data.get("synthetic").input_shape == (224, 224, 3)
    dataset = found.train(8, seed=0, epoch=0, start_step=5, shard=Shard(0, 2, 2))
    assert dataset.cardinality() == (found.steps_per_epoch(8) - 5) * 2
    first, second = dataset.take(2)
    assert first[0].shape == (2, 32, 32, 3) and first[0].dtype == np.float32
    np.testing.assert_array_equal(first[0], second[0])
    assert 0.5 < np.std(first[0]) < 2


def test_evaluation_weighs_each_image_once():
    found = data.get("synthetic", image_size=1)
    total = sum(
        weights.numpy().sum()
        for index in range(3)
        for _, _, weights in found.evaluation(12000, Shard(index, 3))
    )
    assert total == found.test_examples == 50_000


def test_wrong_options_are_told():
    with pytest.raises(UserError, match="image_size 0 is not positive"):
        data.get("synthetic", image_size=0)
