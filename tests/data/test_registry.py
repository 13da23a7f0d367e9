import doctest

import pytest

from tfcredit import data
from tfcredit.data import image_data
from tfcredit.data import registry as catalog
from tfcredit.errors import UserError


@pytest.fixture(autouse=True)
def no_imagenet_at_home(monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_names_are_what_get_takes():
    assert data.names() == ["arrays", "auto", "embedded", "folder", "imagenet", "synthetic"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("embeded", "; did you mean 'embedded'"),
        ("cifar_10", "; did you mean 'cifar10'"),
        ("x!~", r"\."),
    ],
)
def test_unknown_names_list_the_known(name, told):
    pytest.importorskip("tensorflow_datasets")
    known = (
        "known are arrays, auto, embedded, folder, imagenet, synthetic and the image sets of "
        "TensorFlow Datasets"
    )
    with pytest.raises(UserError, match=f"{known}: choose one of them{told}"):
        data.get(name)


def test_embedded():
    found = data.get("embedded", augment=False)
    assert (found.name, found.classes, found.train_examples) == ("embedded", 10, 12000)
    assert found.test_examples == 2000
    assert "as asked for" in found.chosen_because


def test_auto_without_shards_says_loudly_that_it_is_embedded(tmp_path):
    for data_dir in (None, tmp_path, tmp_path / "missing"):
        found = data.get("auto", data_dir)
        assert found.name == "embedded"
        assert "EMBEDDED" in found.chosen_because and "NOT ImageNet" in found.chosen_because
        assert str(tmp_path) in found.chosen_because


def test_auto_takes_shards_that_are_there(shards):
    found = data.get("auto", shards)
    assert found.name == "imagenet" and "IMAGENET" in found.chosen_because
    assert str(shards) in found.chosen_because


@pytest.mark.parametrize("by", ["home", "environment"])
def test_default_folders(shards, tmp_path, monkeypatch, by):
    root = tmp_path / ("tensorflow_datasets" if by == "home" else "elsewhere")
    root.mkdir()
    (root / "imagenet2012").symlink_to(shards)
    if by == "environment":
        monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert data.get("auto").name == data.get("imagenet").name == "imagenet"


def test_imagenet_is_never_replaced(tmp_path):
    with pytest.raises(UserError, match="no ImageNet in .* give their folder as data_dir"):
        data.get("imagenet", tmp_path)
    with pytest.raises(UserError, match="no ImageNet in .*tensorflow_datasets"):
        data.get("imagenet")


def test_unknown_options_list_the_known(shards):
    with pytest.raises(UserError, match="'embedded' has no option 'size', its options are augment"):
        data.get("embedded", size=3)
    with pytest.raises(
        UserError, match="'embedded' has no option 'size', .* NOT ImageNet, because"
    ):
        data.get("auto", "/nowhere", size=3)
    with pytest.raises(UserError, match="no option 'size'.*image_size, augment, shuffle_buffer"):
        data.get("imagenet", shards, size=3)


@pytest.mark.parametrize("module", [catalog, image_data])
def test_examples_in_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0
