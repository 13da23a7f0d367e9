#!/usr/bin/env bash
# `tfds.ReadConfig` with `tfds.folder_dataset.ImageFolder`.
#
# One would guess: `as_dataset(read_config=...)` does for a folder of images what it does for any
# other set of TensorFlow Datasets: `shuffle_seed` fixes the order, `input_context` gives each
# worker its part, `add_tfds_id` adds an id; or it is refused, as slices of splits are.
# What happens: it is dropped. Two readings with `shuffle_files=True` and one `shuffle_seed` differ;
# each of N workers reads all images, so that an epoch is N epochs; there is no id. The same
# arguments do as they say for a set of a builder, and an unknown split raises.
#
# Versions: tensorflow-datasets 4.9.10, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11.
# Date: 2026-12-01.
# Source: readings of a folder and of a built set compared; `_as_dataset` of
# tensorflow_datasets/core/folder_dataset/image_folder.py deletes the argument. The page
# tensorflow.org/datasets/determinism makes one guess so. No report of it was found; pull request
# 5567, which is open, would remove the argument.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorflow-cpu==2.21.0' 'tensorflow-datasets==4.9.10'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2> errors <<'PYTHON' || { cat errors; exit 1; }
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

print("tensorflow-datasets", tfds.__version__, "tensorflow", tf.__version__)
tfds.disable_progress_bar()
COUNT = 40
for index in range(COUNT):
    os.makedirs(f"images/train/{index % 2}", exist_ok=True)
    png = tf.io.encode_png(np.full((4, 4, 3), index, "uint8"))
    tf.io.write_file(f"images/train/{index % 2}/{index:02d}.png", png)


class Built(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(4, 4, 3))}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(COUNT):
            yield index, {"image": np.full((4, 4, 3), index, "uint8")}


built = Built(data_dir="built")
built.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=4))


def read(builder, **options):
    config = tfds.ReadConfig(**options)
    return builder.as_dataset(split="train", shuffle_files=True, read_config=config)


def order(builder):
    return [int(example["image"][0, 0, 0]) for example in read(builder, shuffle_seed=1)]


for name, builder in (("ImageFolder", tfds.ImageFolder("images")), ("a builder", built)):
    repeats = order(builder) == order(builder)
    contexts = [tf.distribute.InputContext(2, index) for index in range(2)]
    seen = [len(list(read(builder, input_context=context))) for context in contexts]
    has_id = "tfds_id" in read(builder, add_tfds_id=True).element_spec
    print(f"{name}: shuffle_seed repeats the order: {repeats}; two workers read {seen} of {COUNT};",
          f"add_tfds_id adds an id: {has_id}")
    if name == "ImageFolder":
        assert not repeats and seen == [COUNT, COUNT] and not has_id, "it has changed"
    else:
        assert repeats and sum(seen) == COUNT and has_id
PYTHON
echo "As described."
