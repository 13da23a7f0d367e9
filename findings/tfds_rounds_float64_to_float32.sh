#!/usr/bin/env bash
# Features of float64 in a data set of TensorFlow Datasets.
#
# One would guess: `tfds.features.Tensor(shape=..., dtype=np.float64)` gives back the numbers that
# were put in, as int64, uint64 and float32 features do; the dtype of what is read is float64.
# What happens: the dtype is float64, but the numbers went through the float32 of tf.train.Example:
# pi is off in its 8th digit, 1e300 is infinite, 1e-300 is 0, and times in seconds since 1970 are
# rounded to 128 seconds. Nothing tells, in `as_dataset` and `as_data_source` alike, for scalars,
# tensors and sequences. With `encoding="bytes"` or "zlib" the numbers are exact.
#
# Versions: tensorflow-datasets 4.9.10, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11.
# Date: 2026-12-01.
# Source: all features and dtypes written, read and compared. tensorflow.org/datasets/features says
# nothing of it. That tf.train.FloatList has 32 bits is known (tensorflow issue 42088); that the
# features of TensorFlow Datasets have them was not found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0' 'tensorflow-datasets==4.9.10'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2> errors <<'PYTHON' || { cat errors; exit 1; }
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

print("tensorflow-datasets", tfds.__version__, "tensorflow", tf.__version__)
tfds.disable_progress_bar()
numbers = np.array([np.pi, 1e300, 1e-300, 1764547200.0, 1764547230.0])
FEATURES = {
    "tensor": tfds.features.Tensor(shape=(5,), dtype=np.float64),
    "scalar": tfds.features.Scalar(dtype=np.float64),
    "sequence": tfds.features.Sequence(np.float64),
    "bytes": tfds.features.Tensor(shape=(5,), dtype=np.float64, encoding="bytes"),
    "zlib": tfds.features.Tensor(shape=(5,), dtype=np.float64, encoding="zlib"),
}


class Numbers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {**FEATURES, "whole": tfds.features.Scalar(dtype=np.uint64)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        example = {name: numbers for name in FEATURES}
        yield 0, {**example, "scalar": numbers[0], "whole": 2**64 - 1}


builder = Numbers(data_dir="data")
builder.download_and_prepare()
example = next(iter(tfds.as_numpy(builder.as_dataset(split="train"))))
assert int(example["whole"]) == 2**64 - 1
for name in FEATURES:
    found = example[name]
    put = numbers[0] if name == "scalar" else numbers
    print(f"{name}: {found.dtype}, {np.atleast_1d(found).tolist()}")
    assert found.dtype == np.float64
    if name in ("bytes", "zlib"):
        assert np.array_equal(found, put)
    else:
        with np.errstate(over="ignore"):
            rounded = put.astype(np.float32).astype(np.float64)
        assert np.array_equal(found, rounded), "it has changed"
apart = float(example["tensor"][4] - example["tensor"][3])
print("two times 30 s apart are read", apart, "s apart")
assert apart != 30, "it has changed"
PYTHON
echo "As described."
