import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit.data import imagenet, preprocessing
from tfcredit.errors import UserError

SIZE = 32


@pytest.fixture(scope="module")
def data(shards):
    return imagenet.build(shards, image_size=SIZE, shuffle_buffer=4)


def batches(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def encoded(height=50, width=80):
    image = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
    return tf.io.encode_jpeg(image, quality=100), image


def test_counts_and_shapes(data):
    assert (data.train_examples, data.test_examples, data.classes) == (15, 5, 1000)
    assert data.input_shape == (SIZE, SIZE, 3)
    images, labels = batches(data.train(4, seed=0, epoch=0))[0]
    assert images.shape == (4, SIZE, SIZE, 3) and images.dtype == np.float32
    assert labels.shape == (4,) and labels.dtype == np.int32
    assert data.train(4, seed=0, epoch=0).cardinality() == data.steps_per_epoch(4) == 3


@pytest.mark.every(2)
@pytest.mark.parametrize("name", ["lr=[0.1]", "a*b?", "#% \\x", "~"])
def test_a_folder_of_any_name(name, shards, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "train-00000-of-00009").mkdir()  # folders are no shards
    for shard in shards.iterdir():
        (folder / shard.name).symlink_to(shard)
    found = imagenet.build(folder, image_size=SIZE, shuffle_buffer=4)
    assert (found.train_examples, found.test_examples) == (15, 5)
    assert len(batches(found.train(5, seed=0, epoch=0))) == len(list(found.evaluation(2))) == 3


def test_an_epoch_holds_each_image_once_in_an_order_of_its_own(data):
    orders = [
        [label for _, labels in batches(data.train(5, seed, epoch)) for label in labels]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for order in orders:
        assert sorted(order) == list(range(15))
    assert list(range(15)) not in orders and orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("start", [0, 1, 3])
@pytest.mark.every(2)
def test_a_start_in_mid_epoch_is_exact(data, start):
    whole = batches(data.train(4, seed=5, epoch=1))
    keras.utils.set_random_seed(99)
    rest = batches(data.train(4, seed=5, epoch=1, start_step=start))
    assert len(rest) == 3 - start
    for left, right in zip(whole[start:], rest, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def test_evaluation_covers_each_image_once_in_order(data):
    seen = list(data.evaluation(2))
    assert [int(label) for _, labels, _ in seen for label in labels] == [0, 1, 2, 3, 4, 0]
    assert [float(w) for _, _, weights in seen for w in weights] == [1, 1, 1, 1, 1, 0]


def test_without_augmentation_training_sees_evaluation_images(shards):
    data = imagenet.build(shards, image_size=SIZE, augment=False)
    first, second = (batches(data.train(15, seed=0, epoch=epoch))[0] for epoch in (0, 1))
    for label in range(15):
        left, right = (images[labels == label] for images, labels in (first, second))
        np.testing.assert_array_equal(left, right)


def test_evaluation_image_is_the_centre_of_the_resized_one():
    jpeg, _ = encoded(50, 80)
    decoded = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    resized = tf.image.resize(decoded, [256, 410]).numpy()  # round(80 * 256 / 50)
    expected = (resized[16:240, 93:317] / 255 - preprocessing.MEAN) / preprocessing.STD
    result = preprocessing.evaluation_image(jpeg, 224).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_train_image_is_a_part_that_varies_with_the_seed():
    jpeg, image = encoded()
    results = [preprocessing.train_image(jpeg, [0, seed], SIZE).numpy() for seed in range(20)]
    np.testing.assert_array_equal(results[3], preprocessing.train_image(jpeg, [0, 3], SIZE).numpy())
    assert len({result.tobytes() for result in results}) == 20
    low, high = (preprocessing.normalise(np.full(3, value)).numpy() for value in (0, 255))
    assert all((result >= low).all() and (result <= high).all() for result in results)
    # Brightness grows with the row: mirrored or not, the lowest row is the brightest.
    assert all(result[-1].mean() > result[0].mean() for result in results)


def test_about_half_of_the_train_images_are_mirrored():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    jpeg = tf.io.encode_jpeg(ramp, quality=100)
    results = [preprocessing.train_image(jpeg, [7, seed], 8).numpy() for seed in range(60)]
    mirrored = sum(result[:, 0].mean() > result[:, -1].mean() for result in results)
    assert 15 < mirrored < 45


def grey_image() -> np.ndarray:
    return np.full((40, 40, 1), 128, np.uint8)


def test_grey_jpegs_become_colour():
    jpeg = tf.io.encode_jpeg(grey_image())
    assert preprocessing.evaluation_image(jpeg, SIZE).shape == (SIZE, SIZE, 3)
    assert preprocessing.train_image(jpeg, [0, 0], SIZE).shape == (SIZE, SIZE, 3)


def test_no_shards_is_told(tmp_path):
    with pytest.raises(UserError, match="no ImageNet in .*train-\\* and validation-\\*"):
        imagenet.build(tmp_path)
    with pytest.raises(UserError, match="no ImageNet in .*other names are the data set 'folder'"):
        imagenet.build(tmp_path / "missing")


@pytest.mark.parametrize("bucket", ["nowhere://bucket/imagenet", "gs://no.such.bucket.invalid/a"])
def test_a_bucket_out_of_reach_is_told(bucket):
    told = f"{bucket}/.train.* can't be read .*check its name, the network|no ImageNet in {bucket}"
    with pytest.raises(UserError, match=told):
        imagenet.build(bucket)


def test_a_set_without_one_of_its_parts_is_told(shards, tmp_path):
    for path in shards.glob("train-*"):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UserError, match="holds 3 shards train-. but none validation-"):
        imagenet.build(tmp_path)


def test_both_sets_of_keys_give_the_same_images(shards, tmp_path):
    for path in shards.iterdir():
        with tf.io.TFRecordWriter(str(tmp_path / path.name)) as writer:
            for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                features = tf.train.Example.FromString(content).features.feature
                (number,) = features["image/class/label"].int64_list.value
                label = tf.train.Int64List(value=[number - 1])
                renamed = {"image": features["image/encoded"]}
                renamed["label"] = tf.train.Feature(int64_list=label)
                example = tf.train.Example(features=tf.train.Features(feature=renamed))
                writer.write(example.SerializeToString())
    sets = [imagenet.build(folder, image_size=SIZE) for folder in (shards, tmp_path)]
    for left, right in zip(*(batches(data.train(5, 0, 0)) for data in sets), strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"junk", "hold no features, but image/encoded and image/class/label or image and label"),
        (tf.train.Example().SerializeToString() or b"", "starts with a readable record"),
    ],
)
def test_records_that_are_no_labelled_images_are_told(shards, tmp_path, content, told):
    for path in shards.iterdir():
        with tf.io.TFRecordWriter(str(tmp_path / path.name)) as writer:
            writer.write(content)
    with pytest.raises(UserError, match=told):
        imagenet.build(tmp_path)


def test_inception_has_its_own_size_and_scale(shards):
    data = imagenet.build(shards, preprocessing="inception", shuffle_buffer=4)
    assert data.input_shape == (299, 299, 3)
    ((images, _),) = batches(data.train(15, 0, 0))
    assert -1 <= images.min() < images.max() <= 1
    with pytest.raises(UserError, match="unknown preprocessing 'vgg'"):
        imagenet.build(shards, preprocessing="vgg")


def test_a_missing_shard_is_told(shards, tmp_path):
    for path in shards.iterdir():
        if not path.name.startswith("train-00001"):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UserError, match="holds 2 shards of train, but their names tell of 3"):
        imagenet.build(tmp_path)


def test_a_cut_shard_is_told(shards, tmp_path):
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / "train-00000-of-00003"
    cut.write_bytes(cut.read_bytes()[:-5])
    with pytest.raises(UserError, match="ends in the middle of record 4"):
        imagenet.build(tmp_path)


@pytest.mark.parametrize("known", [None, 14])
def test_an_empty_shard_is_told(shards, tmp_path, monkeypatch, known):
    monkeypatch.setitem(imagenet.KNOWN_COUNTS, ("train", 3), known)
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    empty = tmp_path / "train-00001-of-00003"
    empty.write_bytes(b"")
    with pytest.raises(UserError, match=f"{empty} is empty, but TFRecords were expected"):
        imagenet.build(tmp_path)
    assert imagenet.build(tmp_path, max_corrupt_records=1).train_examples == (known or 10)


def test_hidden_files_are_no_shards(shards, tmp_path):
    for path in shards.iterdir():
        for start in ("", "._imagenet-", ".partial-"):
            (tmp_path / f"{start}{path.name}").write_bytes(path.read_bytes())
    assert imagenet.build(tmp_path).train_examples == 15


@pytest.mark.parametrize("option", ["image_size", "shuffle_buffer"])
def test_wrong_options_are_told(shards, option):
    with pytest.raises(UserError, match=f"{option} 0 is not positive"):
        imagenet.build(shards, **{option: 0})


@pytest.mark.parametrize("known, counted", [(14, 14), (999, 15)])
def test_a_known_count_is_taken_if_the_first_shard_is_as_long(shards, monkeypatch, known, counted):
    monkeypatch.setitem(imagenet.KNOWN_COUNTS, ("train", 3), known)
    assert imagenet.build(shards, image_size=SIZE).train_examples == counted
