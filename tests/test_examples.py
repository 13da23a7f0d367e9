"""The examples run, each at its smallest size."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.pages import ROOT
from tests.training.test_strategies import ports

EXAMPLES = ROOT / "examples"
SCRIPTS = ["own_images.sh", "fine_tune.py", "own_rule.py", "sequences.py", "two_workers.sh"]
SCRIPTS += ["slurm.sbatch"]


def run(name, *arguments, **environment):
    """What an example prints."""
    interpreter = "bash" if name.endswith(".sh") else sys.executable
    folder = os.path.dirname(sys.executable)  # that of the console script `tfcredit`, too
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [interpreter, str(EXAMPLES / name), *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_is_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) < 40


@pytest.mark.slow
def test_own_images(tmp_path):
    for number in range(30):
        light = number % 2
        path = tmp_path / "pictures" / ("dark", "light")[light] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 128, (40, 36, 3)) + 128 * light
        keras.utils.save_img(path, pixels, scale=False)
    sizes = {"HELD_OUT": "8", "EPOCHS": "1", "SEEDS": "2"}
    printed = run("own_images.sh", tmp_path / "pictures", WORK=str(tmp_path), **sizes)
    assert "| tracking_mirror | 2    |" in printed and "| validation top-1, % |" in printed
    assert (tmp_path / "compare" / "report.html").is_file()
    assert (tmp_path / "seed0.json").is_file()


@pytest.mark.slow
def test_fine_tuning(tmp_path):
    assert "val_accuracy" in run("fine_tune.py", tmp_path)
    assert (tmp_path / "run" / "summary.json").is_file()
    plain = keras.saving.load_model(tmp_path / "plain.keras")
    assert type(plain.get_layer("hidden")) is keras.layers.Dense


@pytest.mark.slow
def test_own_rule(tmp_path):
    printed = run("own_rule.py", tmp_path / "compare")
    assert "| noisy_copy(gain=0.05) | 2    |" in printed


@pytest.mark.slow
def test_sequences():
    assert "lstm/lstm_cell/recurrent_kernel: " in run("sequences.py", "4")


@pytest.mark.slow
@pytest.mark.multi_device
def test_two_workers(tmp_path):
    one, two = ports(2)
    addresses = f"localhost:{one},localhost:{two}"
    run("two_workers.sh", WORK=str(tmp_path), ADDRESSES=addresses, STEPS="4")
    assert (tmp_path / "run" / "summary.json").is_file()
