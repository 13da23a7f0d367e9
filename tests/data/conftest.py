"""Small image sets for the tests of `tfcredit.data`."""

import numpy as np
import pytest
import tensorflow as tf

from tfcredit import data

CLASSES = 3


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Ten training and five test images of 6 x 5 x 2 pixels."""
    random = np.random.RandomState(0)
    return {
        "x_train": random.randint(0, 256, (10, 6, 5, 2)).astype(np.uint8),
        "y_train": np.arange(10) % CLASSES,
        "x_test": random.randint(0, 256, (5, 6, 5, 2)).astype(np.uint8),
        "y_test": np.arange(5) % CLASSES,
    }


@pytest.fixture
def small(arrays) -> data.ImageData:
    return data.ImageData.from_arrays(**arrays, classes=CLASSES, augment=True)


def record(image: np.ndarray, label: int) -> bytes:
    """A record in the classic ImageNet format; `label` counts from 1."""
    features = {
        "image/encoded": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[tf.io.encode_jpeg(image).numpy()])
        ),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A folder of 3 training shards (4, 5 and 6 images) and 2 test shards (2 and 3 images).

    Image i of a part has label i + 1 in its record, and shades that differ from the others'.
    """
    folder = tmp_path_factory.mktemp("imagenet")
    for part, sizes in (("train", (4, 5, 6)), ("validation", (2, 3))):
        number = 0
        for index, size in enumerate(sizes):
            path = folder / f"{part}-{index:05d}-of-{len(sizes):05d}"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for _ in range(size):
                    ramp = np.linspace(0, 100 + 10 * number, 40 * 60 * 3)
                    image = ramp.reshape(40, 60, 3).astype(np.uint8)
                    number += 1
                    writer.write(record(image, number))
    return folder
