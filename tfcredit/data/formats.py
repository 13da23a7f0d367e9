"""What a record is called inside: the two usual sets of keys of labelled images."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfcredit.data.files import first_record
from tfcredit.errors import UserError


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """How a serialised `tf.train.Example` names the image and its label.

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


def detect(files: Sequence[str]) -> RecordFormat:
    """Finds out the format of shards by their first readable record.

    Args:
        files: TFRecord files.

    Returns:
        `CLASSIC` or `TFDS`.

    Raises:
        UserError: If no file has a readable first record, or it has other keys.
    """
    record = next((found for path in files if (found := first_record(path))), None)
    if record is None:
        raise UserError(
            f"none of {len(files)} files, such as {files[0]}, starts with a readable record, but "
            "TFRecords were expected: copy or make the files again."
        )
    try:
        keys = set(tf.train.Example.FromString(record).features.feature)
    except DecodeError:
        keys = set()
    for layout in (CLASSIC, TFDS):
        if {layout.image, layout.label} <= keys:
            return layout
    raise UserError(
        f"the records of {files[0]} hold {', '.join(sorted(keys)) or 'no features'}, but "
        f"{CLASSIC.image} and {CLASSIC.label} or {TFDS.image} and {TFDS.label} were expected: "
        "give the folder of an image-classification set."
    )
