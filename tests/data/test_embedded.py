import hashlib
import importlib.util
import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfcredit.data import embedded
from tfcredit.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def arrays():
    return embedded.load_arrays()


@pytest.fixture(scope="module")
def maker():
    path = ROOT / "tools" / "make_embedded_dataset.py"
    spec = importlib.util.spec_from_file_location("make_embedded_dataset", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_classes_are_balanced(arrays):
    assert arrays["x_train"].shape == (12000, 28, 28, 1)
    assert arrays["x_test"].shape == (2000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(arrays["y_train"]), [1200] * 10)
    np.testing.assert_array_equal(np.bincount(arrays["y_test"]), [200] * 10)


def test_no_test_image_is_a_training_image(arrays):
    train = {image.tobytes() for image in arrays["x_train"]}
    assert len(train) > 11990
    assert not any(image.tobytes() in train for image in arrays["x_test"])


def test_stated_statistics(arrays):
    pixels = arrays["x_train"] / 255.0
    assert embedded.MEAN == (pytest.approx(pixels.mean(), abs=1e-6),)
    assert embedded.STD == (pytest.approx(pixels.std(), abs=1e-6),)


def test_file_is_small_and_its_licence_beside_it():
    assert embedded.PATH.stat().st_size < 6e6
    licence = embedded.PATH.with_name("FASHION_MNIST_LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in licence and "Zalando SE" in licence


def test_damage_is_told(tmp_path):
    content = bytearray(embedded.PATH.read_bytes())
    content[1000] ^= 1
    damaged = tmp_path / "set.npz"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match="is damaged.*install tfcredit again"):
        embedded.load_arrays(damaged)
    with pytest.raises(UserError, match="is missing"):
        embedded.load_arrays(tmp_path / "none.npz")


def test_an_epoch_is_quick_and_normalised():
    data = embedded.build()
    start = time.process_time()
    images = np.concatenate([images.numpy() for images, _ in data.train(128, seed=0, epoch=0)])
    # Measured at 0.1 to 0.2 s; the bound leaves room for a busy machine.
    assert time.process_time() - start < 3
    assert len(images) == 93 * 128
    assert abs(images.std() - 1) < 0.05 and images.min() == pytest.approx(-0.81, abs=0.01)


def test_augmentation_can_be_switched_off():
    plain = embedded.build(augment=False)
    images, labels = next(iter(plain.train(64, seed=0, epoch=0)))
    moved, same_labels = next(iter(embedded.build().train(64, seed=0, epoch=0)))
    np.testing.assert_array_equal(labels, same_labels)
    changed = (images.numpy() != moved.numpy()).any((1, 2, 3))
    assert changed.mean() > 0.8  # one in 50 keeps place and side; symmetric ones look alike


def test_packing_stores_nothing_that_changes(maker):
    arrays = {"x": np.arange(10, dtype=np.uint8)}
    content = maker.pack(arrays)
    assert maker.pack(arrays) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [entry.date_time[0] for entry in archive.infolist()] == [1980]
    with np.load(io.BytesIO(content)) as archive:
        np.testing.assert_array_equal(archive["x"], arrays["x"])


def test_balanced_indices_depend_on_the_seed_alone(maker):
    labels = np.arange(200) % 10
    first = maker.balanced_indices(labels, 3, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[first]), [3] * 10)
    np.testing.assert_array_equal(first, maker.balanced_indices(labels, 3, seed=0))
    assert (first != maker.balanced_indices(labels, 3, seed=1)).any()


def test_a_missing_source_is_told(maker, tmp_path):
    with pytest.raises(SystemExit, match="install dataset-fashion-mnist"):
        maker.make_arrays(tmp_path, seed=0)


@pytest.mark.slow
@pytest.mark.skipif(not SOURCE.exists(), reason="needs the Debian package dataset-fashion-mnist")
def test_the_script_makes_the_shipped_file(maker):
    content = maker.pack(maker.make_arrays(SOURCE, seed=0))
    assert hashlib.sha256(content).hexdigest() == embedded.SHA256
