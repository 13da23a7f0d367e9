"""`examples/imagenet_miniature.sh`, the whole way of ImageNet, at the smallest size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "IMAGES": "24",
    "VALIDATION_IMAGES": "6",
    "CLASSES": "24",
    "STEPS": "2",
    "BATCH_SIZE": "4",
    "IMAGE_SIZE": "64",
}


@pytest.mark.slow
def test_from_archives_to_a_network_that_needs_no_tfcredit(tmp_path):
    # Without the flags that other tests of this process set for XLA or devices.
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "TF_CONFIG")}
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "imagenet_miniature.sh")],
        env={**environment, **SIZES, "PYTHON": sys.executable, "WORK": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for line in (
        "train: 24 images (ILSVRC2012 has 1,281,167: this is another set) of 24 classes",
        "all 10 shards are as SHA256SUMS says.",
        "  train/loss ",
        "resnet18: 11,703,464 parameters, logits (2, 1000)",
    ):
        assert line in done.stdout
    assert (tmp_path / "run" / "export" / "saved_model").is_dir()
