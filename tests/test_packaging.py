"""The built package: what it requires and what it contains."""

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes, message_from_string
from email.message import Message
from pathlib import Path

import pytest

import tfcredit

ROOT = Path(__file__).resolve().parents[1]
WHEELS = {"tensorflow", "tensorflow-cpu", "tensorflow-tpu"}

# Builds without a network and without leaving anything in the source tree.
pytest.importorskip("setuptools", minversion="77", reason="pyproject.toml needs setuptools 77")


def call_backend(tmp_path: Path, hook: str, wheel: str | None) -> subprocess.CompletedProcess:
    source = tmp_path / "source"
    if not source.exists():
        skipped = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "golden")
        shutil.copytree(ROOT, source, ignore=skipped)
    environment = {key: value for key, value in os.environ.items() if key != "TFCREDIT_TENSORFLOW"}
    if wheel is not None:
        environment["TFCREDIT_TENSORFLOW"] = wheel
    script = f"import sys; from setuptools import build_meta as b; b.{hook}(sys.argv[1])"
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
    )


def metadata(tmp_path: Path, wheel: str | None) -> Message:
    done = call_backend(tmp_path, "prepare_metadata_for_build_wheel", wheel)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.dist-info/METADATA")
    return message_from_string(path.read_text(encoding="utf-8"))


def requirements(message: Message) -> dict[str, str]:
    """Version range per name, without the extras' requirements."""
    lines = [line for line in message.get_all("Requires-Dist") if "extra ==" not in line]
    names = [line.split("<")[0].split(">")[0] for line in lines]
    return {name: line[len(name) :] for name, line in zip(names, lines, strict=True)}


@pytest.mark.parametrize("wheel", [None, "", "tensorflow", "tensorflow-cpu", "tensorflow-tpu"])
def test_exactly_one_tensorflow_is_required(tmp_path, wheel):
    found = requirements(metadata(tmp_path, wheel))
    assert WHEELS & set(found) == {wheel or "tensorflow"}
    assert set(found[wheel or "tensorflow"].split(",")) == {">=2.20", "<2.22"}
    others = {"keras", "tensorboard", "tensorflow-datasets", "absl-py", "numpy"}
    assert others < set(found)


def test_the_version_is_stated_alike(tmp_path):
    assert metadata(tmp_path, None)["Version"] == tfcredit.__version__


def test_no_tensorflow_is_required_on_request(tmp_path):
    assert not WHEELS & set(requirements(metadata(tmp_path, "none")))


def test_an_unknown_tensorflow_is_refused(tmp_path):
    done = call_backend(tmp_path, "prepare_metadata_for_build_wheel", "tensorflow-gpu")
    assert done.returncode != 0
    assert "choose one of tensorflow, tensorflow-cpu, tensorflow-tpu, none" in done.stderr


def test_the_wheel_holds_every_module_and_the_data_with_its_licence(tmp_path):
    done = call_backend(tmp_path, "build_wheel", "tensorflow-cpu")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        (info,) = (name for name in names if name.endswith("dist-info/METADATA"))
        assert "tensorflow-cpu" in requirements(message_from_bytes(archive.read(info)))
        (scripts,) = (name for name in names if name.endswith("entry_points.txt"))
        assert b"tfcredit = tfcredit.cli:main" in archive.read(scripts)
    package = (ROOT / "tfcredit").rglob("*.py")
    expected = {str(module.relative_to(ROOT)) for module in package}
    expected |= {"tfcredit/py.typed", "tfcredit/data/FASHION_MNIST_LICENSE"}
    expected |= {"tfcredit/data/fashion_mnist_subset.npz"}
    assert expected <= names
    assert not any(name.startswith(("tests", "tools")) for name in names)
    assert sum("LICENSE" in name for name in names) == 3  # ours, and the data's twice
