"""`RecordFormat`: the keys of image and label in a record, in the two usual formats."""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfcredit.data.tfrecord.record_files import first_record, refuse_compressed
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

    def problem(self, record: bytes) -> str | None:
        """The fault that keeps a record from being an image with a label; `None` if there is none.

        Args:
            record: A serialised `tf.train.Example`.

        Returns:
            The cause as part of a sentence, or None.
        """
        features = _features(record)
        wanted = ((self.image, "bytes_list", "bytes"), (self.label, "int64_list", "whole numbers"))
        for key, kind, name in wanted:
            if key not in features:
                return f"it has no {key!r}"
            found = features[key].WhichOneof("kind") or "nothing"
            what = "image" if key == self.image else "label"
            if found != kind:
                return f"its {what} {key!r} is of {_KINDS.get(found, found)}, not of {name}"
            values = len(getattr(features[key], kind).value)
            if values != 1:
                return f"its {what} {key!r} has {values} values, not 1"
        return None


CLASSIC = RecordFormat("image/encoded", "image/class/label", first_label=1)
"""The shards that the classic ImageNet scripts make."""
TFDS = RecordFormat("image", "label", first_label=0)
"""The files of TensorFlow Datasets."""


_KINDS = {"bytes_list": "text or bytes", "float_list": "floats", "int64_list": "whole numbers"}

LOOKED_AT = 16
"""Most files that `detect` looks into."""


def detect(*parts: Sequence[str]) -> RecordFormat:
    """Finds out the format of shards by the first records of the first 16 of each part.

    It passes over damaged records: reading decides if they are allowed.

    Args:
        *parts: TFRecord files, one sequence for each part of the set.

    Returns:
        `CLASSIC` or `TFDS`.

    Raises:
        UserError: If none of a part's records is readable, none has the keys of a format, the parts
            have not one format, or a label is no whole number.
    """
    layouts = {files[0]: _detect(files) for files in parts}
    if len(set(layouts.values())) > 1:
        (one, its), (other, keys) = list(layouts.items())[:2]
        raise UserError(
            f"the records of {one} have {its.image} and {its.label}, those of {other} "
            f"{keys.image} and {keys.label}, but all were expected to have the same: give one set."
        )
    return next(iter(layouts.values()))


def _detect(files: Sequence[str]) -> RecordFormat:
    """The format of one part."""
    records = {path: first_record(path) for path in files[:LOOKED_AT]}
    readable = {path: record for path, record in records.items() if record}
    if not readable:
        refuse_compressed(files[0])
        raise UserError(
            f"none of the first {len(records)} of {len(files)} files, such as {files[0]}, starts "
            "with a readable record, but TFRecords were expected: copy or make the files again."
        )
    found = {path: _keys(record) for path, record in readable.items()}
    for path, keys in found.items():
        for layout in (CLASSIC, TFDS):
            if {layout.image, layout.label} <= keys:
                problem = layout.problem(readable[path])
                if problem is not None:
                    raise UserError(
                        f"the first record of {path} is no image with a label: {problem}; write "
                        "the files again, with labels as int64."
                    )
                return layout
    path, keys = max(found.items(), key=lambda item: len(item[1]))
    raise UserError(
        f"the records of {path} hold {', '.join(sorted(keys)) or 'no features'}, but "
        f"{CLASSIC.image} and {CLASSIC.label} or {TFDS.image} and {TFDS.label} were expected: "
        "give the folder of an image-classification set."
    )


def _keys(record: bytes) -> set[str]:
    return set(_features(record))


def _features(record: bytes) -> Mapping[str, tf.train.Feature]:
    try:
        return tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return {}
