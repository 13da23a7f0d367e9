import doctest

import numpy as np
import pytest

from tfcredit.data import ImageData, Shard, imagenet, shard
from tfcredit.errors import UserError


def hosts(count: int, pieces: int) -> list[Shard]:
    return [Shard(index, count, pieces) for index in range(count)]


def images_of(dataset) -> list[np.ndarray]:
    return [element[0].numpy() for element in dataset]


def flat_labels(dataset) -> list[int]:
    return [int(label) for element in dataset for label in element[1]]


@pytest.mark.parametrize(("count", "pieces"), [(1, 2), (2, 1), (2, 2)])
def test_a_batch_of_arrays_is_the_same_however_it_is_shared(small, count, pieces):
    whole = images_of(small.train(4, seed=3, epoch=1, start_step=1))
    parts = [images_of(small.train(4, 3, 1, 1, part)) for part in hosts(count, pieces)]
    assert all(len(part) == len(whole) * pieces for part in parts)
    for step, batch in enumerate(whole):
        mine = [image for part in parts for image in part[step * pieces : (step + 1) * pieces]]
        np.testing.assert_array_equal(np.concatenate(mine), batch)


@pytest.fixture(params=["arrays", "records"])
def data(request) -> ImageData:
    if request.param == "arrays":
        return request.getfixturevalue("small")
    folder = request.getfixturevalue("shards")
    return imagenet.build(folder, image_size=8, shuffle_buffer=4)


@pytest.mark.every(21)
@pytest.mark.parametrize("batch_size", [4, 8, 12])
@pytest.mark.parametrize(("count", "pieces"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)])
def test_every_test_image_is_seen_once(data, batch_size, count, pieces):
    alone = data.evaluation(5)
    ((images, labels, _),) = alone
    seen = {}
    lengths = set()
    for part in hosts(count, pieces):
        elements = list(data.evaluation(batch_size, part))
        lengths.add(len(elements))
        flat = [np.concatenate(piece) for piece in zip(*elements, strict=True)]
        assert len(flat[0]) == len(elements) * batch_size // (count * pieces)
        real = flat[2] == 1
        assert (flat[2][~real] == 0).all() and (flat[0][~real] == 0).all()
        examples = zip(*(column[real] for column in flat), strict=True)
        own = dict(zip(range(part.index, 5, count), examples, strict=True))
        assert not own.keys() & seen.keys()
        seen |= own
    assert len(lengths) == 1 and lengths.pop() % pieces == 0
    assert sorted(seen) == list(range(5))
    for number, (image, label, _) in seen.items():
        np.testing.assert_array_equal(image, images[number])
        assert label == labels[number]


def test_shapes_are_static(data):
    part = Shard(1, 2, 2)
    shape = (2, *data.input_shape)
    images, labels, weights = data.evaluation(8, part).element_spec
    assert images.shape == shape and labels.shape == weights.shape == (2,)
    images, labels = data.train(8, 0, 0, 0, part).element_spec
    assert images.shape == shape and labels.shape == (2,)


def test_hosts_read_files_of_their_own(shards):
    data = imagenet.build(shards, image_size=8, shuffle_buffer=4)
    files = [set(range(4)), set(range(4, 9)), set(range(9, 15))]
    seen = [set(flat_labels(data.train(3, 0, 0, 0, part))) for part in hosts(3, 1)]
    assert all(labels in [f & labels for f in files] for labels in seen)
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_a_host_with_too_few_records_begins_again(shards):
    data = imagenet.build(shards, image_size=8, shuffle_buffer=4)
    parts = [flat_labels(data.train(3, 0, 0, 0, part)) for part in hosts(3, 1)]
    assert [len(labels) for labels in parts] == [5, 5, 5]
    sizes = sorted(len(set(labels)) for labels in parts)
    assert sizes == [4, 5, 5]  # the file of 4 records gives one of them twice


@pytest.mark.every(3)
@pytest.mark.parametrize("start", [1, 2])
def test_a_start_in_mid_epoch_is_exact_on_every_host(data, start):
    for part in hosts(2, 2):
        whole = images_of(data.train(4, 7, 1, 0, part))
        rest = images_of(data.train(4, 7, 1, start, part))
        assert len(rest) == len(whole) - 2 * start
        np.testing.assert_array_equal(whole[2 * start :], rest)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"index": 2, "count": 2}, r"index 2 is outside \[0, 2\)"),
        ({"index": -1}, "index -1"),
        ({"count": 0}, "count 0 is not positive"),
        ({"pieces": 0}, "pieces 0 is not positive"),
    ],
)
def test_wrong_shares_are_refused(arguments, told):
    with pytest.raises(UserError, match=told):
        Shard(**arguments)


def test_a_batch_that_cannot_be_cut_is_refused(small):
    part = Shard(0, 2, 2)
    with pytest.raises(UserError, match="batch size 6 is not divisible by 4, the 2 hosts times 2"):
        small.train(6, 0, 0, 0, part)
    with pytest.raises(UserError, match="multiple of 4"):
        small.evaluation(6, part)


def test_more_hosts_than_files_are_refused(shards):
    data = imagenet.build(shards, image_size=8)
    with pytest.raises(UserError, match="4 hosts are more than the 3 training files"):
        data.train(4, 0, 0, 0, Shard(3, 4))


def test_examples_in_docstrings():
    assert doctest.testmod(shard).attempted > 0
