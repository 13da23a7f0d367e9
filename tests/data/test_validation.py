"""Images that are held out for validation: which they are, and what is left."""

import numpy as np
import pytest

from tfcredit import data
from tfcredit.data import imagenet
from tfcredit.data.validation import drawn_of_files
from tfcredit.errors import UserError


def labels(dataset):
    """The labels of batches, padding left out."""
    found = []
    for _, numbers, *weights in dataset.as_numpy_iterator():
        found += numbers[weights[0] > 0].tolist() if weights else numbers.tolist()
    return found


@pytest.fixture(scope="module")
def numbered():
    """20 training and 3 test images, whose labels number them."""
    images = np.zeros((20, 4, 4, 1), "uint8")
    images += np.arange(20, dtype="uint8")[:, None, None, None]
    y = np.arange(20)
    return data.ImageData.from_arrays(images, y, images[:3], y[:3], classes=20)


def test_training_and_validation_images_are_apart(numbered):
    found = numbered.hold_out(6)
    assert (found.train_examples, found.validation_examples, found.test_examples) == (14, 6, 3)
    held = labels(found.validation(batch_size=4))
    assert held == sorted(set(held)) and len(held) == 6
    assert sorted(labels(found.train(7, seed=0, epoch=0)) + held) == [*range(20)]
    assert labels(found.evaluation(batch_size=4)) == [0, 1, 2]
    assert labels(numbered.hold_out(6).validation(3)) == held
    assert labels(numbered.hold_out(6, seed=1).validation(3)) != held
    host = labels(found.validation(4, data.Shard(1, 2)))
    assert host == held[1::2]


def test_records_of_shards(shards):
    found = imagenet.build(shards, image_size=8, augment=False, shuffle_buffer=4).hold_out(5)
    held = labels(found.validation(batch_size=2))
    assert found.train_examples == 10 and len(set(held)) == 5
    assert sorted(labels(found.train(5, seed=0, epoch=0)) + held) == [*range(15)]
    assert len(labels(found.evaluation(batch_size=5))) == 5


def test_records_are_drawn_of_all_files_but_near_their_start():
    held = drawn_of_files([1251] * 512 + [1252] * 512, 10_000, seed=0)
    assert held.sum() == 10_000 and held.shape == (1024, 97)
    assert set(held.sum(axis=1)) == {9, 10}
    held = drawn_of_files([3, 1, 4], 7, seed=0)
    assert held.sum(axis=1).max() <= 4 and held.sum() == 7 and not held[0, 3:].any()


@pytest.mark.parametrize("examples", [0, 20, 21])
def test_a_split_that_leaves_nothing_is_refused(numbered, examples):
    with pytest.raises(UserError, match=f"{examples} is not between 1 and 19, .*hold out fewer"):
        numbered.hold_out(examples)


def test_validation_images_are_not_held_out_twice(numbered):
    with pytest.raises(UserError, match="has 5 validation images already"):
        numbered.hold_out(5).hold_out(5)
    with pytest.raises(UserError, match="holds 0 validation images: hold some out"):
        numbered.validation(4)


def test_synthetic_images():
    found = data.get("synthetic", image_size=8).hold_out(1000)
    assert found.train_examples == 1281167 - 1000
    assert len(labels(found.validation(batch_size=400))) == 1000
