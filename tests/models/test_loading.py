import zipfile

import keras
import numpy as np
import pytest

from tfcredit import models, optimizers
from tfcredit.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file, and the model that it holds."""
    model = models.get("fc", 10, (4, 4, 1), "info_alignment", seed=1, widths=8, depth=1)
    model.compile(optimizers.PartitionedOptimizer("momentum", "adam"), "mse")
    images = np.ones((2, 4, 4, 1), "float32")
    model.train_on_batch(images, np.ones((2, 10), "float32"))
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path, model


def test_all_variables_come_back(saved):
    path, model = saved
    loaded = models.load(path)
    for ours, theirs in ((model, loaded), (model.optimizer, loaded.optimizer)):
        assert len(ours.variables) == len(theirs.variables) > 0
        for a, b in zip(ours.variables, theirs.variables, strict=True):
            np.testing.assert_array_equal(a, b)
    assert loaded.get_layer("dense0").rule == model.get_layer("dense0").rule


def test_options_are_keras(saved):
    assert not models.load(str(saved[0]), compile=False).compiled


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "last byte lost": lambda content: content[: -len(content) // 100],
    "one byte changed": lambda content: (
        content[: len(content) // 2]
        + bytes([content[len(content) // 2] ^ 255])
        + content[len(content) // 2 + 1 :]
    ),
    "text": lambda content: b"no model at all",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_said(saved, damage, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(damage(saved[0].read_bytes()))
    with pytest.raises(UserError, match=r"model\.keras is damaged or cut off.*save the model"):
        models.load(path)


def test_another_archive_is_said(tmp_path):
    path = tmp_path / "photos.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UserError, match=r"holds no Keras model \(metadata.json, model.weights.h5"):
        models.load(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match=r"gone\.keras is missing: check the path"):
        models.load(tmp_path / "gone.keras")


@pytest.mark.parametrize("name", ["model.h5", "checkpoints", ""])
def test_another_kind_of_path_is_said(tmp_path, name):
    with pytest.raises(UserError, match="is no .keras file"):
        models.load(tmp_path / name)


def test_a_class_that_python_does_not_know_is_left_to_keras(tmp_path):
    @keras.saving.register_keras_serializable("elsewhere")
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((3,)), Mine()])
    model.save(tmp_path / "mine.keras")
    del keras.saving.get_custom_objects()["elsewhere>Mine"]
    with pytest.raises(TypeError, match="Mine"):
        models.load(tmp_path / "mine.keras")
    loaded = models.load(tmp_path / "mine.keras", custom_objects={"elsewhere>Mine": Mine})
    assert isinstance(loaded.layers[0], Mine)
