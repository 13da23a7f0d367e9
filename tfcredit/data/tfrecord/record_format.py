"""`RecordFormat`: the keys of image and label in a record, in the two usual formats."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfcredit.data.tfrecord.record_files import first_record
from tfcredit.errors import UserError


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """Keys of the image and its label in a serialised `tf.train.Example`.

    Attributes:
        image: Key of the encoded image.
        label: Key of the label.
        first_label: Label of the first class.
    """

    image: str
    label: str
    first_label: int

    def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes a record apart.

        Args:
            record: A serialised `tf.train.Example`, a scalar string.

        Returns:
            The encoded image, a scalar string, and the label, int32 and counted from 0.
        """
        features = tf.io.parse_single_example(
            record,
            {
                self.image: tf.io.FixedLenFeature([], tf.string),
                self.label: tf.io.FixedLenFeature([], tf.int64),
            },
        )
        return features[self.image], tf.cast(features[self.label] - self.first_label, tf.int32)


CLASSIC = RecordFormat("image/encoded", "image/class/label", first_label=1)
"""The shards that the classic ImageNet scripts make."""
TFDS = RecordFormat("image", "label", first_label=0)
"""The files of TensorFlow Datasets."""


LOOKED_AT = 16
"""Most files that `detect` looks into."""


def detect(files: Sequence[str]) -> RecordFormat:
    """Finds out the format of shards by the first records of the first 16 of them.

    It passes over damaged records: reading decides if they are allowed.

    Args:
        files: TFRecord files.

    Returns:
        `CLASSIC` or `TFDS`.

    Raises:
        UserError: If none of these records is readable, or none has the keys of a format.
    """
    records = {path: first_record(path) for path in files[:LOOKED_AT]}
    readable = {path: record for path, record in records.items() if record}
    if not readable:
        raise UserError(
            f"none of the first {len(records)} of {len(files)} files, such as {files[0]}, starts "
            "with a readable record, but TFRecords were expected: copy or make the files again."
        )
    found = {path: _keys(record) for path, record in readable.items()}
    for keys in found.values():
        for layout in (CLASSIC, TFDS):
            if {layout.image, layout.label} <= keys:
                return layout
    path, keys = max(found.items(), key=lambda item: len(item[1]))
    raise UserError(
        f"the records of {path} hold {', '.join(sorted(keys)) or 'no features'}, but "
        f"{CLASSIC.image} and {CLASSIC.label} or {TFDS.image} and {TFDS.label} were expected: "
        "give the folder of an image-classification set."
    )


def _keys(record: bytes) -> set[str]:
    try:
        return set(tf.train.Example.FromString(record).features.feature)
    except DecodeError:
        return set()
