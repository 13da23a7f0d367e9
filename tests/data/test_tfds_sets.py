import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfcredit import data
from tfcredit.data import imagenet
from tfcredit.data.tfrecord import record_format
from tfcredit.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")

SIZES = {"train": 12, "test": 5}


def store(folder, name, image, sizes=SIZES, classes=10, feature=None):
    """Prepares a set as TensorFlow Datasets does; `image(i)` makes image i."""
    features = tfds.features.FeaturesDict(
        {
            "image": feature or tfds.features.Image(shape=image(0).shape),
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
    )

    def split(size):
        images = [{"image": image(number), "label": number % classes} for number in range(size)]
        return tf.data.Dataset.from_generator(
            lambda: images, output_signature=features.get_tensor_spec()
        )

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="3.0.2",
        features=features,
        split_datasets={part: split(size) for part, size in sizes.items()},
        data_dir=str(folder),
        disable_shuffling=True,
    )


def small_image(number):
    return (np.arange(32 * 32 * 3).reshape(32, 32, 3) % 200 + number).astype(np.uint8)


def large_image(number):
    return (np.arange(90 * 120 * 3).reshape(90, 120, 3) % 200 + number).astype(np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a set under the name of CIFAR-10, and one of larger images."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    store(folder, "cifar10", small_image)
    store(folder, "photographs", large_image, {"train": 12, "validation": 5}, classes=4)
    return folder


def test_small_images_keep_their_size_and_own_statistics(prepared):
    found = data.get("cifar10", prepared, augment=False)
    assert (found.name, found.classes, found.input_shape) == ("cifar10", 10, (32, 32, 3))
    assert (found.train_examples, found.test_examples) == (12, 5)
    pixels = np.stack([small_image(number) for number in range(12)]) / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    ((images, labels, weights),) = found.evaluation(5)
    expected = (np.stack([small_image(number) for number in range(5)]) / 255 - mean) / std
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert labels.numpy().tolist() == [0, 1, 2, 3, 4] and (weights.numpy() == 1).all()


@pytest.mark.parametrize("name", ["lr=[0.1]", "a\\b", "a*b?", "#% x"])
@pytest.mark.every(2)
def test_a_folder_of_any_name(name, prepared, tmp_path):
    folder = given = shutil.copytree(prepared, tmp_path / name)
    if "[" in name:
        with pytest.raises(UserError, match="brackets for a pattern.*a link to it"):
            data.get("cifar10", folder)
        given = tmp_path / "link"
        given.symlink_to(folder)
    assert data.get("cifar10", given).train_examples == 12
    assert data.get("photographs", given).test_examples == 5


def test_small_images_are_shifted_and_flipped(prepared):
    plain, moved = (
        next(iter(data.get("cifar10", prepared, augment=augment).train(12, 0, 0)))[0].numpy()
        for augment in (False, True)
    )
    assert (plain != moved).any((1, 2, 3)).mean() > 0.8


@pytest.mark.parametrize("preprocessing", ["resnet", "inception"])
def test_large_images_are_prepared_as_those_of_imagenet(prepared, preprocessing):
    found = data.get("photographs", prepared, preprocessing=preprocessing, shuffle_buffer=4)
    size = {"resnet": 224, "inception": 299}[preprocessing]
    assert found.input_shape == (size, size, 3) and found.classes == 4
    images, labels = next(iter(found.train(12, 0, 0)))
    assert images.shape == (12, size, size, 3)
    assert sorted(labels.numpy()) == sorted(number % 4 for number in range(12))
    ((_, labels, weights),) = found.evaluation(8)
    assert labels.numpy().tolist() == [0, 1, 2, 3, 0, 0, 0, 0] and weights.numpy().sum() == 5


def test_small_images_of_another_size_are_read_from_files(prepared):
    found = data.get("cifar10", prepared, image_size=48)
    assert found.input_shape == (48, 48, 3)
    assert next(iter(found.train(4, 0, 0)))[0].shape == (4, 48, 48, 3)


def test_a_set_that_is_not_prepared_is_not_downloaded(tmp_path):
    told = "'cifar10' is not prepared, .*cifar10/3.0.2 .*`tfds build cifar10 --data_dir="
    with pytest.raises(UserError, match=told):
        data.get("cifar10", tmp_path)
    with pytest.raises(UserError, match="imagenet2012 --data_dir=.* --manual_dir="):
        data.get("imagenet2012", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_half_prepared_set_is_told(prepared, tmp_path):
    shutil.copytree(prepared / "cifar10", tmp_path / "cifar10")
    (shard,) = tmp_path.glob("cifar10/*/cifar10-train*")
    shard.unlink()
    with pytest.raises(UserError, match="half prepared, 1 of its 1 files of train are missing"):
        data.get("cifar10", tmp_path)
    (tmp_path / "cifar10/3.0.2/dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="'cifar10' .* can't be opened"):
        data.get("cifar10", tmp_path)


def test_sets_without_labelled_images_are_refused(tmp_path):
    store(tmp_path, "lone", small_image, {"train": 2})
    with pytest.raises(UserError, match="'lone' has the splits train, but"):
        data.get("lone", tmp_path)
    feature = tfds.features.Tensor(shape=(32, 32, 3), dtype=np.uint8)
    store(tmp_path, "tensors", small_image, feature=feature)
    with pytest.raises(UserError, match="'tensors' holds image, label, but an 8-bit `image`"):
        data.get("tensors", tmp_path)


def test_a_corrupt_small_image_is_left_out(prepared, tmp_path):
    shutil.copytree(prepared / "cifar10", tmp_path / "cifar10")
    (shard,) = tmp_path.glob("cifar10/*/cifar10-train*")
    records = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for number, record in enumerate(records):
            writer.write(record.replace(b"\x89PNG", b"junk") if number == 7 else record)
    with pytest.raises(UserError, match="record 7 of .*cifar10-train.* is corrupt"):
        data.get("cifar10", tmp_path)
    found = data.get("cifar10", tmp_path, max_corrupt_records=1)
    assert found.train_examples == 11
    assert [entry.record for entry in found.corrupt] == [7]


def test_too_large_a_set_for_memory_is_told(prepared, monkeypatch):
    monkeypatch.setattr("tfcredit.data.tfds_sets.MAX_BYTES", 1000)
    with pytest.raises(UserError, match="takes .* GiB in memory.* set image_size"):
        data.get("cifar10", prepared)


def test_imagenet_reads_files_of_tensorflow_datasets(prepared, tmp_path):
    for path in prepared.glob("photographs/*/*.tfrecord-*"):
        shutil.copy(path, tmp_path)
    found = data.get("imagenet", tmp_path)
    assert (found.train_examples, found.test_examples, found.classes) == (12, 5, 1000)
    assert found.source.record_format == record_format.TFDS
    ((_, labels, _),) = found.evaluation(5)
    assert labels.numpy().tolist() == [0, 1, 2, 3, 0]
    assert imagenet.locate(tmp_path).root == str(tmp_path)
