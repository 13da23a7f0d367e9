import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit.data import ImageData
from tfcredit.data.arrays import MAX_SHIFT, shift_and_flip
from tfcredit.errors import UserError


def batches(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def assert_same(first, second):
    assert len(first) == len(second)
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def test_shapes_and_dtypes(small):
    (images, labels), *_ = batches(small.train(4, seed=0, epoch=0))
    assert images.shape == (4, 6, 5, 2) and images.dtype == np.float32
    assert labels.shape == (4,) and labels.dtype == np.int32
    assert small.input_shape == (6, 5, 2)
    assert (small.train_examples, small.test_examples, small.classes) == (10, 5, 3)


@pytest.mark.parametrize("augment", [False, True])
def test_an_epoch_is_a_function_of_seed_and_epoch(arrays, augment):
    data = ImageData.from_arrays(**arrays, classes=3, augment=augment)
    first = batches(data.train(3, seed=1, epoch=2))
    keras.utils.set_random_seed(99)
    assert_same(first, batches(data.train(3, seed=1, epoch=2)))
    for seed, epoch in ((1, 3), (2, 2)):
        other = batches(data.train(3, seed=seed, epoch=epoch))
        assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_a_start_in_mid_epoch_is_exact(arrays, augment, start):
    data = ImageData.from_arrays(**arrays, classes=3, augment=augment)
    whole = batches(data.train(3, seed=1, epoch=0))
    assert len(whole) == data.steps_per_epoch(3) == 3
    assert_same(whole[start:], batches(data.train(3, seed=1, epoch=0, start_step=start)))
    assert data.train(3, 1, 0, start).cardinality() == 3 - start


def test_an_epoch_holds_each_image_once(arrays):
    arrays["x_train"] = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    arrays["x_test"] = arrays["x_train"][:5]
    data = ImageData.from_arrays(**arrays, classes=3, mean=(0,), std=(1,))
    images, labels = batches(data.train(10, seed=0, epoch=0))[0]
    assert sorted(images.ravel()) == list(range(10))
    assert list(images.ravel()) != list(range(10))
    np.testing.assert_array_equal(labels, images.ravel() % 3)


def test_evaluation_covers_each_image_once_in_order(arrays, small):
    seen = [[part.numpy() for part in batch] for batch in small.evaluation(2)]
    weights = np.concatenate([weights for _, _, weights in seen])
    np.testing.assert_array_equal(weights, [1, 1, 1, 1, 1, 0])
    scaled = arrays["x_train"] / 255.0
    mean, std = scaled.mean((0, 1, 2)), scaled.std((0, 1, 2))
    expected = (arrays["x_test"] / 255.0 - mean) / std
    images, labels = (np.concatenate(part) for part in list(zip(*seen, strict=True))[:2])
    np.testing.assert_allclose(images[:5], expected, atol=1e-5)
    np.testing.assert_array_equal(images[5], 0)
    np.testing.assert_array_equal(labels, [*arrays["y_test"], 0])


def test_float_images_are_not_scaled(arrays):
    for name in ("x_train", "x_test"):
        arrays[name] = arrays[name].astype(np.float64)
    data = ImageData.from_arrays(**arrays, classes=3, mean=(0, 0), std=(1, 2))
    seen = np.concatenate([images for images, _, _ in data.evaluation(5)])
    np.testing.assert_array_equal(seen, (arrays["x_test"] / [1, 2]).astype(np.float32))


def test_a_constant_channel_stays_finite(arrays):
    arrays["x_train"] = np.full((10, 6, 5, 2), 7, np.uint8)
    data = ImageData.from_arrays(**arrays, classes=3)
    images, _ = batches(data.train(10, seed=0, epoch=0))[0]
    assert np.isfinite(images).all()


def test_labels_of_shape_n_1(arrays):
    arrays["y_train"] = arrays["y_train"][:, None]
    data = ImageData.from_arrays(**arrays, classes=3)
    assert batches(data.train(10, 0, 0))[0][1].shape == (10,)


def test_shift_and_flip_equals_its_definition():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (50, 6, 5, 2)).astype(np.uint8)
    flips = random.randint(0, 2, 50).astype(bool)
    shifts = random.randint(0, 2 * MAX_SHIFT + 1, (50, 2)).astype(np.int32)
    side = (MAX_SHIFT, MAX_SHIFT)
    padded = np.pad(images, ((0, 0), side, side, (0, 0)))
    result = shift_and_flip(images, flips, shifts).numpy()
    for index, (top, left) in enumerate(shifts):
        crop = padded[index, top : top + 6, left : left + 5]
        np.testing.assert_array_equal(result[index], crop[:, ::-1] if flips[index] else crop)


WRONG_ARRAYS = {
    "no channels": ({"x_train": np.zeros((10, 6, 5), np.uint8)}, r"x_train\[..., None\]"),
    "integers": ({"x_train": np.zeros((10, 6, 5, 2), np.int64)}, "dtype int64"),
    "not finite": ({"x_test": np.full((5, 6, 5, 2), np.nan)}, "NaN"),
    "two scales": ({"x_test": np.zeros((5, 6, 5, 2))}, "both as uint8 or both as floating"),
    "another test shape": ({"x_test": np.zeros((5, 6, 6, 2), np.uint8)}, r"\(6, 5, 2\)"),
    "too few labels": ({"y_train": np.zeros(9, int)}, r"\(9,\), but \(10,\)"),
    "one-hot": ({"y_test": np.eye(5, dtype=int)}, r"y_test has shape \(5, 5\)"),
    "label too large": ({"y_test": np.array([0, 1, 2, 3, 0])}, "label 3"),
    "nothing": (
        {"x_train": np.zeros((0, 6, 5, 2), np.uint8), "y_train": np.zeros(0, int)},
        "0 images",
    ),
}


@pytest.mark.parametrize(("changes", "told"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS.keys())
def test_wrong_arrays_are_refused(arrays, changes, told):
    with pytest.raises(UserError, match=told):
        ImageData.from_arrays(**(arrays | changes), classes=3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"batch_size": 11}, "larger than the 10 training images"),
        ({"batch_size": 0}, "not positive"),
        ({"batch_size": 5, "start_step": 3}, "outside the epoch's 2 steps"),
        ({"batch_size": 5, "start_step": -1}, "outside the epoch's 2 steps"),
    ],
)
def test_wrong_requests_are_refused(small, arguments, told):
    with pytest.raises(UserError, match=told):
        small.train(seed=0, epoch=0, **arguments)


def test_an_empty_set_is_refused(small):
    empty = ImageData("nothing", 3, (6, 5, 2), 0, 0, small.source)
    with pytest.raises(UserError, match="0 training images"):
        empty.train(1, seed=0, epoch=0)
    with pytest.raises(UserError, match="0 test images"):
        empty.evaluation(1)
    with pytest.raises(UserError, match="not positive"):
        small.evaluation(0)


def test_pipelines_are_neither_tuned_nor_translated(small, translated):
    held = small.hold_out(4)
    for dataset in (held.train(3, 0, 0), held.validation(2), held.evaluation(2)):
        # The thread that tunes keeps an iterator from being deleted, for up to a minute.
        assert dataset.options().autotune.enabled is False
        assert dataset.options().autotune.initial_parallelism >= 1
        list(dataset)
    assert translated == []
    list(tf.data.Dataset.range(2).map(lambda number: held.classes + number))
    assert translated, "the test itself would notice nothing"
